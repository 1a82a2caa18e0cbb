"""`Progress`: how far a trial has come, and what is known of it so far."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from advlora.config import TrialConfig
from advlora.metrics import OVERFITTING_GAP, TRAINING_LOSS


@dataclass(frozen=True)
class Progress:
    """How far a trial has come.

    Attributes:
        epochs: Number of epochs in all; 0 where nothing is trained.
        epoch: Number of epochs that are finished.
        metrics: The latest value of everything that was measured.
        stopped: Whether training ended before its last epoch because the model overfitted.
        switched: Whether training continues with another attack because the model overfitted.
    """

    epochs: int
    epoch: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    stopped: bool = False
    switched: bool = False

    @classmethod
    def of(cls, config: TrialConfig, state: dict[str, Any] | None) -> Progress:
        """Returns that of a trial at a state, or before its first epoch."""
        epochs = config.optimiser.epochs if config.adapter.trains else 0
        if state is None:
            return cls(epochs)
        return cls(epochs, state["epoch"], state["metrics"], state["stopped"], state["switched"])

    @property
    def finished(self) -> bool:
        """Whether nothing more is trained."""
        return self.stopped or self.epoch >= self.epochs

    def measured(self, metrics: dict[str, float]) -> Progress:
        """Returns the progress with new values of some metrics."""
        return replace(self, metrics=self.metrics | metrics)

    def trained(self, loss: float) -> Progress:
        """Returns the progress after another epoch; the gap of an earlier epoch says nothing about this one."""
        kept = {name: value for name, value in self.metrics.items() if name != str(OVERFITTING_GAP)}
        return replace(self, epoch=self.epoch + 1, metrics=kept | {str(TRAINING_LOSS): loss})

    def state(self) -> dict[str, Any]:
        """Returns plain data from which `of` continues."""
        return {
            "epoch": self.epoch,
            "metrics": dict(self.metrics),
            "stopped": self.stopped,
            "switched": self.switched,
        }
