"""How much a study computes, in forward passes of the vision tower."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from advlora.config import EvaluationProtocol, TrialConfig
from advlora.data import load_manifest
from advlora.data.transfer import NamedSet
from advlora.evaluation.guards import guard_forwards
from advlora.training.cost import evaluation_forwards, training_forwards


@dataclass(frozen=True)
class PlannedArm:
    """The trials of one arm, or of one stage of a sweep."""

    name: str
    tuning: int
    trials: int
    done: int
    forwards: float
    """Vision-tower forward passes (F, per image) of one trial, training and evaluation."""
    tuning_forwards: float = 0.0
    """The same of one tuning trial, which is neither measured on `test` nor checked."""
    tuned: int = 0
    """Tuning trials that are done."""

    @property
    def left(self) -> float:
        """Forward passes that are still to run."""
        return self.forwards * (self.trials - self.done) + self.tuning_forwards * (self.tuning - self.tuned)


def trial_forwards(
    config: TrialConfig,
    protocol: EvaluationProtocol,
    test: bool,
    guarded: bool = True,
    transfer: Sequence[NamedSet] = (),
) -> float:
    """Counts the forward passes of one trial.

    Args:
        config: The trial.
        protocol: Its evaluation.
        test: Whether it is measured on `test` as well.
        guarded: Whether its numbers are checked.
        transfer: Further data sets on which it is measured.
    """
    manifest = load_manifest(config.data)
    images = config.data.train_samples or manifest.splits["train"].samples
    splits = ("val", "test") if test else ("val",)
    evaluated = sum(evaluation_forwards(protocol, split) for split in splits)
    evaluated += sum(evaluation_forwards(protocol, "test", classes=len(each.manifest.classes)) for each in transfer)
    guards = guard_forwards(protocol, len(manifest.classes) or None) if guarded else 0.0
    return training_forwards(config, images) + evaluated + guards
