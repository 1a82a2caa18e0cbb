"""Results that depend on a weight's content only, computed once and shared: in the process, and on disk if wanted.

Trials of one study start from the same weights; without sharing, each would repeat the same k-means and SVD.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from advlora.kept import keep_tensors, kept_tensors

Tensors = dict[str, Tensor]

CAPACITY = 1024
_memory: OrderedDict[str, Tensors] = OrderedDict()


def content_hash(weight: Tensor) -> str:
    """Hashes shape, type and values."""
    content = weight.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{tuple(content.shape)} {content.dtype}".encode())
    digest.update(content.view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


def recall(key: str, compute: Callable[[], Tensors], folder: Path | None = None) -> Tensors:
    """Returns the tensors stored under `key`, or computes and stores them.

    Args:
        key: Names the computation and everything it depends on; fit for a file name.
        compute: Called if the key is found nowhere; returns CPU tensors.
        folder: Shared by processes; None keeps results in this process only.

    Returns:
        Tensors that others share: not to be changed in place.

    Raises:
        UserError: If the folder is full.
    """
    if key not in _memory:
        _memory[key] = compute() if folder is None else _from_disk(folder / f"{key}.safetensors", compute)
        if len(_memory) > CAPACITY:
            _memory.popitem(last=False)
    _memory.move_to_end(key)
    return _memory[key]


def forget() -> None:
    """Empties the memory of this process."""
    _memory.clear()


def _from_disk(file: Path, compute: Callable[[], Tensors]) -> Tensors:
    known = kept_tensors(file)
    if known is None:
        known = compute()
        keep_tensors(file, known)
    return known
