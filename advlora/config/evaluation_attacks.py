"""The attacks of a protocol, in pixel space [0, 1]: one class per method, with the keys that it takes.

What runs a method is registered by its class: `advlora.attacks.registry.on_classes` and `on_captions`.
"""

from __future__ import annotations

from abc import ABC
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from advlora.config.attack_base import (
    Ensemble,
    EvaluationAttackConfig,
    GradientAttack,
    IteratedAttack,
    Loss,
    RetrievalAttack,
    TransferAttack,
    UntargetedLoss,
)
from advlora.config.base import Amount, Count, default_kind
from advlora.config.caption_attacks import CaptionAttack, CoAttack, SetLevel, Sga
from advlora.config.perturbation import StepSize, standard_step
from advlora.config.schema import kinds, sections


class Fgsm(GradientAttack):
    """One step from the image (Goodfellow et al. 2015)."""

    kind: Literal["fgsm"] = "fgsm"
    loss: UntargetedLoss = "cross_entropy"
    """What the attacker maximises."""

    def run_forwards(self, classes: int) -> int:
        """Returns the cost of one gradient and a last look."""
        return 3

    def weakened(self, steps: int) -> Fgsm:
        """Returns the attack itself: there is nothing to shorten."""
        return self

    def strengthened(self) -> Pgd:
        """Returns an iterated attack on the same loss."""
        return Pgd(norm=self.norm, loss=self.loss, steps=1).strengthened()


class Pgd(RetrievalAttack, IteratedAttack):
    """Projected gradient descent from a random start (Madry et al. 2018); also against retrieval."""

    kind: Literal["pgd"] = "pgd"
    loss: UntargetedLoss = "cross_entropy"
    """What the attacker maximises."""
    steps: Count = 10
    """Gradient steps."""
    step_size: StepSize = None
    """None means 2.5 epsilon / steps, at most epsilon."""

    def step(self, epsilon: float) -> float:
        """Returns the step that is in force."""
        return standard_step(epsilon, self.steps) if self.step_size is None else self.step_size


class AutoPgd(IteratedAttack, ABC):
    """PGD with momentum that halves its own step where progress stalls (Croce & Hein 2020, algorithm 1)."""


class Apgd(RetrievalAttack, AutoPgd):
    """APGD on a loss of choice; also against retrieval."""

    kind: Literal["apgd"] = "apgd"
    loss: Loss = "cross_entropy"
    """What the attacker maximises."""
    targets: Amount = Field(default_factory=lambda data: _standard_targets(data.get("loss")))
    """Nine under loss `dlr_targeted`, which needs at least one; other losses have none."""

    @model_validator(mode="after")
    def _targets_fit_loss(self) -> Self:
        if (self.loss == "dlr_targeted") != (self.targets > 0):
            raise ValueError("targets belong to loss 'dlr_targeted', which needs at least one, and to no other loss")
        return self


def _standard_targets(loss: str | None) -> int:
    return 9 if loss == "dlr_targeted" else 0


class ApgdCe(RetrievalAttack, AutoPgd):
    """APGD on cross-entropy; also against retrieval."""

    OBJECTIVE: ClassVar[str] = "cross_entropy"

    kind: Literal["apgd-ce"] = "apgd-ce"


class ApgdDlr(AutoPgd):
    """APGD on the difference of logits ratio."""

    OBJECTIVE: ClassVar[str] = "dlr"

    kind: Literal["apgd-dlr"] = "apgd-dlr"


class ApgdT(AutoPgd):
    """APGD on the targeted difference of logits ratio."""

    OBJECTIVE: ClassVar[str] = "dlr_targeted"

    kind: Literal["apgd-t"] = "apgd-t"
    targets: Count = 9
    """How many of the most likely wrong classes are aimed at, one run each."""


class Pma(IteratedAttack):
    """PGD on the margin in probability space (PMA, Xie et al. 2024), of the standard step."""

    OBJECTIVE: ClassVar[str] = "probability_margin"

    kind: Literal["pma"] = "pma"

    def step(self, epsilon: float) -> float:
        """Returns 2.5 epsilon / steps, at most epsilon."""
        return standard_step(epsilon, self.steps)


class Fab(EvaluationAttackConfig):
    """White-box: looks for the nearest point beyond the nearest boundary (FAB, Croce & Hein 2020b)."""

    kind: Literal["fab"] = "fab"
    steps: Count = 100
    """Steps."""
    restarts: Count = 1
    """Runs from different random numbers."""

    def run_forwards(self, classes: int) -> int:
        """Returns the cost of two looks and a backward pass per class in every step."""
        return (2 + classes) * self.steps


class FabT(EvaluationAttackConfig):
    """FAB towards one boundary at a time."""

    kind: Literal["fab-t"] = "fab-t"
    steps: Count = 100
    """Steps."""
    restarts: Count = 1
    """Runs from different random numbers."""
    targets: Count = 9
    """How many of the most likely wrong classes are aimed at, one run each."""

    def run_forwards(self, classes: int) -> int:
        """Returns the cost of two looks and a backward pass in every step."""
        return 3 * self.steps


class Square(RetrievalAttack):
    """Black-box: random search with squares, sees logits only (Andriushchenko et al. 2020); also against retrieval."""

    OBJECTIVE: ClassVar[str] = "margin"

    TITLE: ClassVar[str] = "Square"

    kind: Literal["square"] = "square"
    steps: Count = 5000
    """Queries."""
    restarts: Count = 1
    """Runs from different random numbers."""

    def run_forwards(self, classes: int) -> int:
        """Returns the cost of the start and the queries."""
        return self.steps + 1


class Mi(TransferAttack):
    """Momentum (MI-FGSM, Dong et al. 2018)."""

    kind: Literal["mi"] = "mi"


class Di(TransferAttack):
    """Momentum and input diversity (M-DI2-FGSM, Xie et al. 2019)."""

    kind: Literal["di"] = "di"


class Noise(EvaluationAttackConfig):
    """Control: uniform noise of the ball."""

    TITLE: ClassVar[str] = "noise"

    kind: Literal["noise"] = "noise"
    restarts: Count = 10
    """Draws."""

    def run_forwards(self, classes: int) -> int:
        """Returns the cost of a look."""
        return 1


class AutoAttack(Ensemble):
    """AutoAttack's version `standard` (Croce & Hein 2020, section 5)."""

    TITLE: ClassVar[str] = "AutoAttack"

    kind: Literal["autoattack"] = "autoattack"

    def parts(self) -> tuple[EvaluationAttackConfig, ...]:
        """Returns the attacks that are run in its place."""
        return (ApgdCe(norm=self.norm), ApgdT(norm=self.norm), FabT(norm=self.norm), Square(norm=self.norm))


class AutoAttackPlus(Ensemble):
    """AutoAttack's version `plus` (the authors' code)."""

    TITLE: ClassVar[str] = "AutoAttack+"

    kind: Literal["autoattack-plus"] = "autoattack-plus"

    def parts(self) -> tuple[EvaluationAttackConfig, ...]:
        """Returns the attacks that are run in its place."""
        return (
            ApgdCe(norm=self.norm, restarts=5),
            ApgdDlr(norm=self.norm, restarts=5),
            Fab(norm=self.norm, restarts=5),
            Square(norm=self.norm),
            ApgdT(norm=self.norm),
            FabT(norm=self.norm),
        )


AnyEvaluationAttack = Annotated[
    Fgsm
    | Pgd
    | Apgd
    | ApgdCe
    | ApgdDlr
    | ApgdT
    | Pma
    | Fab
    | FabT
    | Square
    | Mi
    | Di
    | Noise
    | AutoAttack
    | AutoAttackPlus
    | SetLevel
    | CoAttack
    | Sga,
    Field(discriminator="kind"),
    default_kind("pgd"),
]
"""What an entry of a protocol's `attacks` may be."""
CAPTION_KINDS = tuple(
    kind for kind, method in kinds(sections(AnyEvaluationAttack)).items() if issubclass(method, CaptionAttack)
)
"""The kinds that only retrieval knows."""
RETRIEVAL_KINDS = tuple(
    kind for kind, method in kinds(sections(AnyEvaluationAttack)).items() if issubclass(method, RetrievalAttack)
)
"""The kinds that attack classes and captions alike."""
