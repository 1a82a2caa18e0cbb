"""Results that depend on a weight's content only, computed once and shared: in the process, and on disk if wanted.

Trials of one study start from the same weights; without sharing, each would repeat the same k-means and SVD.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

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
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file

    try:
        return load_file(file)
    except (OSError, SafetensorError):
        tensors = compute()
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=file.parent, suffix=".tmp")
    os.close(handle)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, draft)
    os.replace(draft, file)
    return tensors
