"""The attacks of a protocol, in pixel space [0, 1]: one class per method, with the keys that it takes.

A key means the same in every class: `steps` are gradient steps (of Square: queries), `restarts` runs from different
random numbers, `targets` how many of the most likely wrong classes are aimed at, one run each and at most all of them,
`loss` what the attacker maximises, `source` whose gradients are followed. What a file leaves out is the standard of the
method. What runs a method is registered by its class: `advlora.attacks.registry.on_classes` and `on_captions`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import PurePath
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from advlora.config.base import Count, Section, default_kind
from advlora.config.perturbation import Norm, StepSize, standard_step
from advlora.config.schema import kinds, sections
from advlora.metrics import readable_epsilon

UntargetedLoss = Literal["cross_entropy", "margin", "dlr"]
"""`margin`: the difference of logits of Carlini & Wagner (2017), blind to saturated cross-entropy. `dlr`: the same
relative to the spread of the logits (Croce & Hein 2020, equation 6)."""
Loss = UntargetedLoss | Literal["dlr_targeted"]
"""`dlr_targeted`: `dlr` towards one class (equation 7)."""
Scales = tuple[Annotated[float, Field(gt=0, le=4)], ...]
"""Sizes, apart from 1, at which an image must miss its captions; an empty list for size 1 alone."""
Words = Annotated[str, Field(min_length=1)]
"""Who proposes other words: a masked language model of transformers, by name or as `local-dir:PATH`."""
Aim = Literal["classes", "captions"]

NEEDS_THREE_CLASSES = ("dlr", "dlr_targeted")
"""The losses of the DLR family divide by the lead over the third class."""
SGA_SCALES = (0.5, 0.75, 1.25, 1.5)
"""The sizes of Lu et al. (2023, section 4.2)."""
MOST_STEPS, MOST_TARGETS = 200, 3
"""Bounds of a strengthened attack."""


class EvaluationAttackConfig(Section, ABC):
    """One attack of the protocol; the base of all.

    Attributes:
        TITLE: How a reader knows the attack; its kind in capitals if it is empty.
        OBJECTIVE: What it maximises where no key `loss` says so; empty if it follows no objective.
    """

    TITLE: ClassVar[str] = ""
    OBJECTIVE: ClassVar[str] = ""

    kind: str
    norm: Norm = "linf"

    def _own(self, key: str, absent: Any) -> Any:
        """Returns the value of a key, or `absent` if the method does not take it."""
        return getattr(self, key) if key in type(self).model_fields else absent

    @property
    def aims(self) -> tuple[Aim, ...]:
        """What it can attack: a classifier's classes, the captions of a retrieval set."""
        return ("classes",)

    @property
    def objective(self) -> str:
        """What it maximises, by its name in `advlora.attacks.objectives`."""
        return str(self._own("loss", self.OBJECTIVE))

    @property
    def fewest_classes(self) -> int:
        """The fewest classes that it can be run on."""
        return 3 if self.objective in NEEDS_THREE_CLASSES else 1

    @property
    def repeats(self) -> int:
        """Runs from different random numbers."""
        return int(self._own("restarts", 1))

    @property
    def target_count(self) -> int:
        """How many wrong classes are aimed at, one after the other; 0 for an untargeted attack."""
        return int(self._own("targets", 0))

    @property
    def transferred(self) -> bool:
        """Whether it follows the gradients of the pretrained model."""
        return bool(self._own("source", "model") == "pretrained")

    def parts(self) -> tuple[EvaluationAttackConfig, ...]:
        """Returns the attacks that are run in its place: itself, or those of an ensemble."""
        return (self,)

    def forwards(self, classes: int) -> int:
        """Returns the cost per image of an attack that breaks nothing, in F.

        Args:
            classes: How many classes the data set has; a targeted attack first looks at the logits and aims at no more
                than there are.
        """
        targets = min(self.target_count, classes - 1) if self.target_count else 1
        return int(self.target_count > 0) + self.repeats * targets * self.run_forwards(classes)

    @abstractmethod
    def run_forwards(self, classes: int) -> int:
        """Returns the cost per image of one run, in F: forward and backward passes of the vision tower."""

    @property
    def label(self) -> str:
        """A short name such as `pgd-20 margin x3`."""
        words = [self._counted(self.kind)]
        words += [loss] if (loss := self._own("loss", "cross_entropy")) != "cross_entropy" else []
        words += ["l2"] if self.norm == "l2" else []
        words += [f"x{self.repeats}"] if self.repeats > 1 else []
        return " ".join(words)

    def describe(self, epsilon: float) -> str:
        """Names the attack for a reader, such as `PGD-10 (cross-entropy, L-inf 8/255)`."""
        transferred = "transferred " if self.transferred else ""
        repeated = f" with {self.repeats} restarts" if self.repeats > 1 else ""
        details = [loss.replace("_", "-")] if (loss := self._own("loss", "")) else []
        details.append(f"{'L-inf' if self.norm == 'linf' else 'L2'} {readable_epsilon(epsilon)}")
        details += [f"step {readable_epsilon(step)}"] if (step := self._own("step_size", None)) is not None else []
        details += [f"words of {_folder(words)}"] if (words := self._own("words", "")) else []
        return f"{transferred}{self._counted(self.TITLE or self.kind.upper())}{repeated} ({', '.join(details)})"

    def _counted(self, name: str) -> str:
        return f"{name}-{steps}" if (steps := self._own("steps", None)) is not None else name


def _folder(words: str) -> str:
    return PurePath(words.partition(":")[2] or words).name


class GradientAttack(EvaluationAttackConfig, ABC):
    """White-box: it climbs the gradient of an objective of the evaluated model; every visited point counts.

    The guards shorten it to look at other epsilons, and strengthen it to see whether more effort breaks more.
    """

    @abstractmethod
    def weakened(self, steps: int) -> GradientAttack:
        """Returns one run of at most so many steps of the standard length."""

    @abstractmethod
    def strengthened(self) -> GradientAttack:
        """Returns the attack with twice the steps, within bounds, and one more start."""


class Fgsm(GradientAttack):
    """One step from the image (Goodfellow et al. 2015)."""

    kind: Literal["fgsm"] = "fgsm"
    loss: UntargetedLoss = "cross_entropy"

    def run_forwards(self, classes: int) -> int:
        """Returns the cost of one gradient and a last look."""
        return 3

    def weakened(self, steps: int) -> Fgsm:
        """Returns the attack itself: there is nothing to shorten."""
        return self

    def strengthened(self) -> Pgd:
        """Returns an iterated attack on the same loss."""
        return Pgd(norm=self.norm, loss=self.loss, steps=1).strengthened()


class IteratedAttack(GradientAttack, ABC):
    """A gradient attack of several steps."""

    steps: Count = 100
    restarts: Count = 1

    def run_forwards(self, classes: int) -> int:
        """Returns the cost of a gradient per step and a last look."""
        return 2 * self.steps + 1

    def weakened(self, steps: int) -> Self:
        """Returns one run of at most so many steps of the standard length, at most at one target."""
        return self._with(steps=min(self.steps, steps), restarts=1, targets=min(self.target_count, 1), step_size=None)

    def strengthened(self) -> Self:
        """Returns the attack with twice the steps, within bounds, and one more start where it is short."""
        return self._with(
            steps=max(min(2 * self.steps, MOST_STEPS), 20),
            restarts=2 if self.steps <= MOST_STEPS // 4 else 1,
            targets=min(self.target_count, MOST_TARGETS),
            step_size=None,
        )

    def _with(self, **values: int | None) -> Self:
        """Returns a copy with those of the values that the method takes."""
        return self.model_copy(update={key: value for key, value in values.items() if key in type(self).model_fields})


class Pgd(IteratedAttack):
    """Projected gradient descent from a random start (Madry et al. 2018); also against retrieval."""

    kind: Literal["pgd"] = "pgd"
    loss: UntargetedLoss = "cross_entropy"
    steps: Count = 10
    step_size: StepSize = None
    """None means 2.5 epsilon / steps, at most epsilon."""

    @property
    def aims(self) -> tuple[Aim, ...]:
        """Captions too, where the loss can be read as own captions against all others."""
        return ("classes",) if self.loss == "dlr" else ("classes", "captions")

    def step(self, epsilon: float) -> float:
        """Returns the step that is in force."""
        return standard_step(epsilon, self.steps) if self.step_size is None else self.step_size


class AutoPgd(IteratedAttack, ABC):
    """PGD with momentum that halves its own step where progress stalls (Croce & Hein 2020, algorithm 1)."""


class Apgd(AutoPgd):
    """APGD on a loss of choice."""

    kind: Literal["apgd"] = "apgd"
    loss: Loss = "cross_entropy"
    targets: Annotated[int, Field(ge=0)] = Field(default_factory=lambda data: _standard_targets(data.get("loss")))
    """Nine under loss `dlr_targeted`, which needs at least one; other losses have none."""

    @model_validator(mode="after")
    def _targets_fit_loss(self) -> Self:
        if (self.loss == "dlr_targeted") != (self.targets > 0):
            raise ValueError("targets belong to loss 'dlr_targeted', which needs at least one, and to no other loss")
        return self


def _standard_targets(loss: str | None) -> int:
    return 9 if loss == "dlr_targeted" else 0


class ApgdCe(AutoPgd):
    """APGD on cross-entropy."""

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
    restarts: Count = 1

    def run_forwards(self, classes: int) -> int:
        """Returns the cost of two looks and a backward pass per class in every step."""
        return (2 + classes) * self.steps


class FabT(EvaluationAttackConfig):
    """FAB towards one boundary at a time."""

    kind: Literal["fab-t"] = "fab-t"
    steps: Count = 100
    restarts: Count = 1
    targets: Count = 9

    def run_forwards(self, classes: int) -> int:
        """Returns the cost of two looks and a backward pass in every step."""
        return 3 * self.steps


class Square(EvaluationAttackConfig):
    """Black-box: random search with squares, sees logits only (Andriushchenko et al. 2020)."""

    TITLE: ClassVar[str] = "Square"

    kind: Literal["square"] = "square"
    steps: Count = 5000
    restarts: Count = 1

    def run_forwards(self, classes: int) -> int:
        """Returns the cost of the start and the queries."""
        return self.steps + 1


class TransferAttack(EvaluationAttackConfig, ABC):
    """Follows the gradients of another model; only its last point counts."""

    loss: UntargetedLoss = "cross_entropy"
    steps: Count = 10
    step_size: StepSize = None
    """None means epsilon / steps."""
    source: Literal["model", "pretrained"] = "pretrained"
    """`model`: the evaluated one, which makes it a white-box attack."""

    def step(self, epsilon: float) -> float:
        """Returns the step that is in force."""
        return epsilon / self.steps if self.step_size is None else self.step_size

    def run_forwards(self, classes: int) -> int:
        """Returns the cost of a gradient per step and a last look."""
        return 2 * self.steps + 1


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


class Ensemble(EvaluationAttackConfig, ABC):
    """Stands for other attacks, of the same norm."""

    @abstractmethod
    def parts(self) -> tuple[EvaluationAttackConfig, ...]:
        """Returns the attacks that are run in its place."""

    @property
    def transferred(self) -> bool:
        """Whether a part follows the gradients of the pretrained model."""
        return any(part.transferred for part in self.parts())

    def run_forwards(self, classes: int) -> int:
        """Returns the cost of all parts."""
        return sum(part.forwards(classes) for part in self.parts())


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


class CaptionAttack(EvaluationAttackConfig, ABC):
    """Retrieval only: moves images away from their captions."""

    steps: Count = 10
    step_size: StepSize = None
    """None means 2.5 epsilon / steps, at most epsilon."""

    @property
    def aims(self) -> tuple[Aim, ...]:
        """Captions only."""
        return ("captions",)

    @property
    def sizes(self) -> tuple[float, ...]:
        """At which sizes, apart from 1, an image must miss its captions."""
        return tuple(self._own("scales", ()))

    def step(self, epsilon: float) -> float:
        """Returns the step that is in force."""
        return standard_step(epsilon, self.steps) if self.step_size is None else self.step_size

    def run_forwards(self, classes: int) -> int:
        """Returns the cost of a gradient per step and size, and a last look."""
        return 2 * (1 + len(self.sizes)) * self.steps + 1


class SetLevel(CaptionAttack):
    """Images against all of their captions, at several sizes (the image part of SGA, Lu et al. 2023)."""

    TITLE: ClassVar[str] = "set-level PGD"

    kind: Literal["set-level"] = "set-level"
    restarts: Count = 1
    scales: Scales = SGA_SCALES


class JointAttack(CaptionAttack, ABC):
    """Changes a word of every caption too.

    Attributes:
        PAIRWISE: Whether an image moves away from its first caption only, and captions are attacked once.
    """

    PAIRWISE: ClassVar[bool]

    words: Words

    @model_validator(mode="before")
    @classmethod
    def _words_have_a_source(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("words") is None:
            raise ValueError(
                "words is required: a masked language model that proposes another word for every caption, by name or "
                "as 'local-dir:PATH'; kind 'set-level' attacks images alone"
            )
        return values

    def run_forwards(self, classes: int) -> int:
        """Returns the cost of the images' attack and one more look at the clean images."""
        return super().run_forwards(classes) + 1


class CoAttack(JointAttack):
    """Against one caption at one size (Zhang et al. 2022)."""

    TITLE: ClassVar[str] = "Co-Attack"
    PAIRWISE: ClassVar[bool] = True

    kind: Literal["co-attack"] = "co-attack"


class Sga(JointAttack):
    """Against all captions at several sizes (Lu et al. 2023)."""

    PAIRWISE: ClassVar[bool] = False

    kind: Literal["sga"] = "sga"
    scales: Scales = SGA_SCALES


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
