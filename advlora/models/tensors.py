"""Named tensors in a file that others may read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor


def write_tensors(tensors: Mapping[str, Tensor], file: Path) -> None:
    """Writes tensors as safetensors, in the mode that the process gives to new files.

    safetensors alone leaves a file that its owner alone may read.
    """
    from safetensors.torch import save_file

    file.unlink(missing_ok=True)
    file.touch()
    mode = file.stat().st_mode
    # A copy of its own for each, because safetensors refuses tensors that share memory.
    plain = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    save_file(plain, file, metadata={"format": "pt"})
    file.chmod(mode)
