"""Paths as people write them."""

from __future__ import annotations

import os

from advlora.config.trial import LOCAL


def expanded(path: str) -> str:
    """Returns a path, or a name with one, with a leading `~` and environment variables replaced.

    Args:
        path: Such as `~/models/fare.pt`, `$MODELS/fare.pt` or `local-dir:~/models/vit`. Anything else is returned as it
            is, a variable that is not set among it.
    """
    prefix = LOCAL if path.startswith(LOCAL) else ""
    return prefix + os.path.expanduser(os.path.expandvars(path.removeprefix(prefix)))
