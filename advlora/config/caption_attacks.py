"""Attacks of a protocol that aim at captions, so that only retrieval knows them: one class per method."""

from __future__ import annotations

from abc import ABC
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from advlora.config.attack_base import Aim, EvaluationAttackConfig
from advlora.config.base import Count, Real, Text
from advlora.config.perturbation import StepSize, standard_step

Scales = tuple[Annotated[Real, Field(gt=0, le=4)], ...]
"""Sizes, apart from 1, at which an image must miss its captions; an empty list for size 1 alone."""
Words = Annotated[Text, Field(min_length=1)]
"""Who proposes other words: a masked language model of transformers, by name or as `local-dir:PATH`."""
SGA_SCALES = (0.5, 0.75, 1.25, 1.5)
"""The sizes of Lu et al. (2023, section 4.2)."""


class CaptionAttack(EvaluationAttackConfig, ABC):
    """Retrieval only: moves images away from their captions."""

    steps: Count = 10
    """Gradient steps."""
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
    """Runs from different random numbers."""
    scales: Scales = SGA_SCALES
    """Sizes, apart from 1, at which an image must miss its captions."""


class JointAttack(CaptionAttack, ABC):
    """Changes a word of every caption too.

    Attributes:
        PAIRWISE: Whether an image moves away from its first caption only, and captions are attacked once.
    """

    PAIRWISE: ClassVar[bool]

    words: Words
    """Who proposes other words: a masked language model of transformers, by name or as `local-dir:PATH`."""

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
    """Sizes, apart from 1, at which an image must miss its captions."""
