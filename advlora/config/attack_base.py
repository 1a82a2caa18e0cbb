"""What the attacks of a protocol have in common: their keys, how a reader knows them, what they cost.

A key means the same in every class: `steps` are gradient steps (of Square: queries), `restarts` runs from different
random numbers, `targets` how many of the most likely wrong classes are aimed at, one run each and at most all of them,
`loss` what the attacker maximises, `source` whose gradients are followed. What a file leaves out is the standard of the
method.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import PurePath
from typing import Any, ClassVar, Literal, Self

from advlora.config.base import Count, Section
from advlora.config.perturbation import Norm, StepSize
from advlora.metrics import readable_epsilon

UntargetedLoss = Literal["cross_entropy", "margin", "dlr"]
"""`margin`: the difference of logits of Carlini & Wagner (2017), blind to saturated cross-entropy. `dlr`: the same
relative to the spread of the logits (Croce & Hein 2020, equation 6)."""
Loss = UntargetedLoss | Literal["dlr_targeted"]
"""`dlr_targeted`: `dlr` towards one class (equation 7)."""
Aim = Literal["classes", "captions"]

NEEDS_THREE_CLASSES = ("dlr", "dlr_targeted")
"""The losses of the DLR family divide by the lead over the third class."""
Direction = Literal["image_to_text", "text_to_image"]
"""Which queries of a retrieval set an attack spoils: images that look for captions, or captions that look for one."""
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
    """Norm of the ball around an image."""

    def _own(self, key: str, absent: Any) -> Any:
        """Returns the value of a key, or `absent` if the method does not take it."""
        return getattr(self, key) if key in type(self).model_fields else absent

    @property
    def aims(self) -> tuple[Aim, ...]:
        """What it can attack: a classifier's classes, the captions of a retrieval set."""
        return ("classes",)

    @property
    def heading(self) -> Direction | None:
        """Which queries of a retrieval set it spoils as if they asked a classifier; None if it does not run so."""
        return None

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
        words += [way.replace("_", "-")] if (way := self._own("direction", STANDARD)) != STANDARD else []
        words += [f"x{self.repeats}"] if self.repeats > 1 else []
        return " ".join(words)

    def describe(self, epsilon: float) -> str:
        """Names the attack for a reader, such as `PGD-10 (cross-entropy, L-inf 8/255)`."""
        transferred = "transferred " if self.transferred else ""
        repeated = f" with {self.repeats} restarts" if self.repeats > 1 else ""
        details = [loss.replace("_", "-")] if (loss := self._own("loss", "")) else []
        details.append(f"{'L-inf' if self.norm == 'linf' else 'L2'} {readable_epsilon(epsilon)}")
        details += [_WAYS[way]] if (way := self._own("direction", STANDARD)) != STANDARD else []
        details += [f"step {readable_epsilon(step)}"] if (step := self._own("step_size", None)) is not None else []
        details += [f"words of {_folder(words)}"] if (words := self._own("words", "")) else []
        return f"{transferred}{self._counted(self.TITLE or self.kind.upper())}{repeated} ({', '.join(details)})"

    def run_on(self, classes: int, epsilon: float) -> str:
        """Names the attack as `describe` does, without those of its parts that so few classes do not allow.

        Args:
            classes: How many classes the data set has; 0 for captions.
            epsilon: Radius of the ball.

        Returns:
            An empty string if nothing of it is run.
        """
        parts = self.parts()
        idle = [part.TITLE or part.kind.upper() for part in parts if 0 < classes < part.fewest_classes]
        if len(idle) == len(parts):
            return ""
        return self.describe(epsilon) + (f" without {' and '.join(idle)}" if idle else "")

    def _counted(self, name: str) -> str:
        return f"{name}-{steps}" if (steps := self._own("steps", None)) is not None else name


STANDARD: Direction = "image_to_text"
_WAYS = {"text_to_image": "against captions that look for images", "both": "in both directions"}


class RetrievalAttack(EvaluationAttackConfig, ABC):
    """Attacks a classifier's classes; and captions, for a retrieval set is a classifier with several right answers."""

    direction: Direction | Literal["both"] = STANDARD
    """Retrieval: which queries are spoiled; `both` stands for two attacks."""

    @property
    def aims(self) -> tuple[Aim, ...]:
        """Captions too, where the objective can be read as own captions against all others."""
        return ("classes",) if self.objective in NEEDS_THREE_CLASSES else ("classes", "captions")

    @property
    def heading(self) -> Direction | None:
        """The direction of a single attack."""
        return None if self.direction == "both" else self.direction

    def parts(self) -> tuple[EvaluationAttackConfig, ...]:
        """Returns the attack in each of its directions."""
        if self.direction != "both":
            return (self,)
        return tuple(self.model_copy(update={"direction": way}) for way in ("image_to_text", "text_to_image"))

    def forwards(self, classes: int) -> int:
        """Returns the cost per image, in every direction."""
        return super().forwards(classes) * len(self.parts())


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


class IteratedAttack(GradientAttack, ABC):
    """A gradient attack of several steps."""

    steps: Count = 100
    """Gradient steps."""
    restarts: Count = 1
    """Runs from different random numbers."""

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


class TransferAttack(EvaluationAttackConfig, ABC):
    """Follows the gradients of another model; only its last point counts."""

    loss: UntargetedLoss = "cross_entropy"
    """What the attacker maximises."""
    steps: Count = 10
    """Gradient steps."""
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
