"""Results kept on disk: a file appears complete or not at all, and a storage that is full or fails is one sentence."""

from __future__ import annotations

import errno
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from advlora.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What a storage answers that is full, or fails."""


@contextmanager
def draft_of(file: Path) -> Iterator[Path]:
    """Yields where to write: what lies there in the end becomes `file`, and is removed if anything goes wrong."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        yield draft
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


def unwritable(folder: Path, error: OSError, remedy: str) -> str:
    """Says that nothing can be kept in a folder."""
    return f"cannot write to '{folder}': {error.strerror or error}; {remedy}"


def keep_tensors(file: Path, tensors: Mapping[str, Tensor], remedy: str = "free space there") -> None:
    """Writes tensors, which lie on the CPU, as safetensors; where nothing may be written, nothing is kept.

    Args:
        file: Where; its folder is made.
        tensors: By name.
        remedy: What to do where the storage is full.

    Raises:
        UserError: If the storage is full, or fails.
    """
    from safetensors.torch import save

    content = save({name: tensor.contiguous() for name, tensor in tensors.items()})
    try:
        with draft_of(file) as draft:
            draft.write_bytes(content)
    except OSError as error:
        if error.errno in FULL:
            raise UserError(unwritable(file.parent, error, remedy)) from error


def kept_tensors(file: Path) -> dict[str, Tensor] | None:
    """Returns what `keep_tensors` wrote; None where nothing lies there, or what does is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (OSError, SafetensorError):
        return None
