"""Calls into model libraries without their side effects on the process: messages and the global random state."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def contained() -> Iterator[None]:
    """Drops open_clip's own messages on the root logger, and restores torch's random state.

    open_clip logs through `logging.warning(...)`, which also installs a root handler where there is none; a
    placeholder handler prevents that. Messages from elsewhere pass.
    """
    import open_clip
    import torch

    package = Path(open_clip.__file__).parent
    root, placeholder = logging.getLogger(), logging.NullHandler()

    def of_others(record: logging.LogRecord) -> bool:
        return package not in Path(record.pathname).parents

    root.addFilter(of_others)
    root.addHandler(placeholder)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        root.removeHandler(placeholder)
        root.removeFilter(of_others)


@contextmanager
def contained_transformers() -> Iterator[None]:
    """Silences the messages and progress bars of transformers, and restores torch's random state."""
    import torch
    from transformers.utils import logging as messages

    level, bars = messages.get_verbosity(), messages.is_progress_bar_enabled()
    messages.set_verbosity_error()
    messages.disable_progress_bar()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        messages.set_verbosity(level)
        if bars:
            messages.enable_progress_bar()
