"""The state of a trial on disk: where training goes on, and from which the trained model is rebuilt."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from advlora.adapters import AdaptedModel
from advlora.config import TrialConfig
from advlora.errors import UserError
from advlora.training.trainer import restore
from advlora.training.workbench import Workbench

STATE_FILE = "state.pt"
SAMPLES = 64
"""Validation images on which an export is compared with what was trained."""


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Replaces the state of a trial in one step; a crash leaves the old one or the new one."""
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f"{STATE_FILE}.{os.getpid()}.tmp"
    torch.save(state, draft)
    draft.replace(folder / STATE_FILE)


def load_state(folder: Path) -> dict[str, Any] | None:
    """Returns the last state of a trial on the CPU; None where there is none."""
    file = folder / STATE_FILE
    if not file.is_file():
        return None
    state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    return state


def rebuild(config: TrialConfig, folder: Path) -> tuple[AdaptedModel, Tensor]:
    """Returns the trained model of a finished trial, and images `(B, 3, H, W)` in [0, 1] to try it on.

    Raises:
        UserError: If the trial's state was removed.
    """
    state = load_state(folder)
    if state is None and config.adapter.trains:
        raise UserError(f"{folder / STATE_FILE} was removed, so the trained model cannot be written; train again")
    bench = Workbench()
    trained = restore(config, bench, state)
    images = bench.split(config.data, "val", trained.model.image_size, SAMPLES).images
    return trained, images.float() / 255
