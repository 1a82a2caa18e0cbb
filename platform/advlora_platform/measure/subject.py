"""`Subject`: a model that is measured, and what is known of its origin."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

from advlora.config import ModelConfig
from advlora.models import VisionLanguageModel

Kind = Literal["trained", "adapter", "checkpoint", "vision weights", "pretrained", "trial"]


@dataclass(frozen=True)
class Subject:
    """A model that is measured.

    Attributes:
        network: On the CPU, frozen; both towers as they are to be measured.
        name: Short, for people and file names.
        kind: What the reference was.
        base: The pretrained model that it started from, or that it is; None if unknown. Transfer attacks start there.
        changed: Whether it is another model than its base.
        frozen: Inside, the network is the same function with its adapter merged into the weights.
        merges: Whether there is an adapter that `frozen` merges.
        run: MLflow run of the trial that trained it.
        trial_id: Identity of that trial.
    """

    network: VisionLanguageModel
    name: str
    kind: Kind
    base: ModelConfig | None = None
    changed: bool = True
    frozen: Callable[[], AbstractContextManager[None]] = nullcontext
    merges: bool = False
    run: str | None = None
    trial_id: str | None = None
