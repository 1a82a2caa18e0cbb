"""The state of a trial on disk: where training goes on, and from which the trained model is rebuilt."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch
from torch import Tensor

from advlora.adapters import AdaptedModel
from advlora.config import TrialConfig
from advlora.errors import UserError
from advlora.training.trainer import restore
from advlora.training.workbench import Workbench
from advlora_platform.study.folder import STATE_FILE, write_file

SAMPLES = 64
"""Validation images on which an export is compared with what was trained."""
log = logging.getLogger(__name__)


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Replaces the state of a trial in one step, flushed to disk; a crash leaves the old one or the new one."""
    for draft in folder.glob(f"{STATE_FILE}.*.tmp"):  # of a worker that was killed while it saved
        draft.unlink(missing_ok=True)
    write_file(folder / STATE_FILE, lambda file: torch.save(state, file))


def load_state(folder: Path) -> dict[str, Any] | None:
    """Returns the last state of a trial on the CPU; None where there is none, or a damaged one, which is set aside."""
    file = folder / STATE_FILE
    try:
        if _is_whole(file):
            state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
            return state
        file.replace(folder / f"{STATE_FILE}.damaged")
    except FileNotFoundError:  # also where another worker of the trial has set it aside just now
        return None
    log.warning("%s is damaged; it is set aside, and the trial begins at its first epoch", file)
    return None


def _is_whole(file: Path) -> bool:
    """Compares the checksums of the archive with its content, which `torch.load` does not."""
    try:
        with ZipFile(file) as archive:
            return archive.testzip() is None
    except OSError:  # the storage failed; that says nothing about the file
        raise
    except Exception:  # damage shows itself as any of half a dozen types
        return False


def rebuild(config: TrialConfig, folder: Path) -> tuple[AdaptedModel, Tensor]:
    """Returns the trained model of a finished trial, and images `(B, 3, H, W)` in [0, 1] to try it on.

    Raises:
        UserError: If the trial's state was removed or is damaged.
    """
    state = load_state(folder)
    if state is None and config.adapter.trains:
        raise UserError(
            f"{folder / STATE_FILE} was removed (see 'keep' in the study) or is damaged, so there is no trained model; "
            "train again"
        )
    bench = Workbench()
    trained = restore(config, bench, state)
    images = bench.split(config.data, "val", trained.model.preprocessing, SAMPLES).images
    return trained, images.float() / 255
