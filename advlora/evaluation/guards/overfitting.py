"""Catastrophic overfitting of one-step adversarial training (Wong et al. 2020, section 5.4).

The model learns to break the one-step attack instead of resisting it: its accuracy under that attack stays or rises
while its accuracy under several steps collapses, within an epoch and without a sign in the training loss.
"""

from __future__ import annotations

from dataclasses import dataclass

from advlora.config import EvaluationProtocol
from advlora.config.evaluation_attacks import Fgsm, Pgd
from advlora.config.training_attacks import AdversarialConfig
from advlora.data import ImageTextSet
from advlora.distributed import SOLO, Group
from advlora.evaluation.classification import Classification
from advlora.evaluation.zero_shot import ZeroShotClassifier
from advlora.metrics import OVERFITTING, OVERFITTING_GAP

SMALLEST_GAP = 0.1
"""Below this difference of accuracies nothing is said: a model that resists neither attack has not overfitted."""


@dataclass(frozen=True)
class OverfittingFinding:
    """Accuracies on held-out images.

    Attributes:
        one_step: Under the attack of the training, within the ball.
        several: Under PGD of the same radius.
        drop: The share of `one_step` that may vanish under PGD.
    """

    one_step: float
    several: float
    drop: float

    @property
    def gap(self) -> float:
        """What the one-step attack overstates."""
        return self.one_step - self.several

    @property
    def overfitted(self) -> bool:
        """Whether robustness against one step is not robustness."""
        return self.gap > max(self.drop * self.one_step, SMALLEST_GAP)

    def metrics(self) -> dict[str, float]:
        """Returns the gap and the verdict under their metric names."""
        return {str(OVERFITTING_GAP): self.gap, str(OVERFITTING): float(self.overfitted)}


def check_overfitting(
    classifier: ZeroShotClassifier, data: ImageTextSet, attack: AdversarialConfig, group: Group = SOLO
) -> OverfittingFinding:
    """Compares the training's attack with a short PGD.

    Args:
        classifier: The model.
        data: Held-out examples.
        attack: The training's attack, which takes one step.
        group: The processes that share the work; every one gets the same finding.
    """
    settings = attack.overfitting
    step = attack.step_size_in_force
    one = Pgd(norm=attack.norm, steps=1, step_size=step) if attack.random_start else Fgsm(norm=attack.norm)
    several = Pgd(norm=attack.norm, steps=settings.steps)
    protocol = EvaluationProtocol(attacks=(one, several), epsilon=attack.epsilon)
    classification = Classification(classifier, protocol, group=group, exhaustive=True)
    one_step, robust = classification.outcomes(data, (attack.epsilon,)).accuracies(attack.epsilon).values()
    return OverfittingFinding(one_step, robust, settings.drop)
