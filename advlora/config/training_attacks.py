"""The attacks that a trial trains against, in pixel space [0, 1]: one class per method, with the keys that it takes.

What runs a method is registered by its class: `advlora.attacks.registry.in_training`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from advlora.config.base import Count, Epsilon, Section, Share, Switch, default_kind
from advlora.config.perturbation import Norm, StepSize, check_epsilon, standard_step


class OverfittingConfig(Switch):
    """Watch for catastrophic overfitting, after every epoch of training with a one-step attack."""

    steps: Count = 10
    """Steps of the PGD that the one-step attack is compared with."""
    samples: Count = 100
    """How many images of `val` are attacked (the first ones)."""
    drop: Share = 0.7
    """Share of the accuracy under the one-step attack that may vanish under PGD."""
    action: Literal["none", "stop", "switch"] = "none"
    """What follows. `none`: it is logged. `stop`: training ends with the epoch before. `switch`: training continues
    with PGD of two steps."""


class TrainingAttackConfig(Section, ABC):
    """One attack of training; the base of all."""

    kind: str

    @property
    @abstractmethod
    def gradient_steps(self) -> int:
        """How many input gradients the attack takes per batch; each costs 2 F."""

    @property
    def adversarial(self) -> bool:
        """Whether the images are attacked at all."""
        return self.gradient_steps > 0

    @property
    def label(self) -> str:
        """A short name such as `pgd-3 l2`."""
        return self.kind

    @property
    def starts_clean(self) -> bool:
        """Whether the first gradient is taken at the clean image itself."""
        return False

    @property
    def watched(self) -> AdversarialConfig | None:
        """This attack, where training could overfit to it and is watched for it; None elsewhere."""
        return None

    def switched(self) -> TrainingAttackConfig:
        """Returns the attack that training continues with after action `switch` of the watch."""
        return self


class NoAttack(TrainingAttackConfig):
    """Clean training."""

    kind: Literal["none"] = "none"

    @property
    def gradient_steps(self) -> int:
        """No gradient is taken."""
        return 0


class AdversarialConfig(TrainingAttackConfig, ABC):
    """What all attacks but `none` take."""

    norm: Norm = "linf"
    """Norm of the ball around an image."""
    epsilon: Epsilon = 8 / 255
    """Radius: at most 1 for L-inf; in L2 the length of the perturbation of one image."""
    step_size: StepSize = None
    """None means the attack's standard: see `standard_step_size`."""
    random_start: bool = True
    """Whether the search starts from noise; otherwise from the clean image."""
    overfitting: OverfittingConfig = OverfittingConfig()
    """Watch for catastrophic overfitting of one-step attacks."""

    @model_validator(mode="after")
    def _epsilon_fits_norm(self) -> Self:
        check_epsilon(self.norm, self.epsilon)
        return self

    @model_validator(mode="after")
    def _watch_has_an_effect(self) -> Self:
        if self.gradient_steps > 1 and self.overfitting != OverfittingConfig():
            raise ValueError(f"overfitting: only one-step attacks are watched, and {self.label} is none; leave it out")
        return self

    @property
    @abstractmethod
    def standard_step_size(self) -> float:
        """The step that the method's paper takes, in the norm."""

    @property
    def step_size_in_force(self) -> float:
        """The configured step, or the standard one."""
        return self.standard_step_size if self.step_size is None else self.step_size

    @property
    def label(self) -> str:
        """A short name such as `pgd-3 l2`."""
        steps = f"-{self.gradient_steps}" if "steps" in type(self).model_fields else ""
        return f"{self.kind}{steps}{' l2' if self.norm == 'l2' else ''}"

    @property
    def starts_clean(self) -> bool:
        """Whether the first gradient is taken at the clean image itself."""
        return not self.random_start

    @property
    def watched(self) -> AdversarialConfig | None:
        """This attack, where training could overfit to it and is watched for it; None elsewhere."""
        return self if self.overfitting.enabled and self.gradient_steps == 1 and self.epsilon > 0 else None

    def switched(self) -> TrainPgd:
        """Returns PGD of the same ball, of two steps of the standard length: one step can be overfitted to again."""
        return TrainPgd(norm=self.norm, epsilon=self.epsilon, steps=2, random_start=self.random_start)


class OneStepAttack(AdversarialConfig, ABC):
    """An attack that takes a single gradient.

    Attributes:
        REACH: The standard step in epsilons.
    """

    REACH: ClassVar[float]

    @property
    def gradient_steps(self) -> int:
        """One gradient is taken."""
        return 1

    @property
    def standard_step_size(self) -> float:
        """`REACH` epsilon."""
        return self.REACH * self.epsilon


class FgsmRs(OneStepAttack):
    """FGSM from a random start in the ball (Wong et al. 2020)."""

    kind: Literal["fgsm_rs"] = "fgsm_rs"
    REACH: ClassVar[float] = 1.25


class NFgsm(OneStepAttack):
    """FGSM on noise of twice the radius, not clipped to the ball (de Jorge et al. 2022)."""

    kind: Literal["n_fgsm"] = "n_fgsm"
    REACH: ClassVar[float] = 1.0
    NOISE: ClassVar[float] = 2.0
    """Radius of the noise in epsilons (section 4)."""


class IteratedTraining(AdversarialConfig, ABC):
    """An attack that takes several gradients."""

    steps: Count = 2
    """Gradient steps per batch."""

    @property
    def gradient_steps(self) -> int:
        """`steps` gradients are taken."""
        return self.steps

    @property
    def standard_step_size(self) -> float:
        """2.5 epsilon / steps, at most epsilon."""
        return standard_step(self.epsilon, self.steps)


class TrainPgd(IteratedTraining):
    """Projected gradient descent (Madry et al. 2018)."""

    kind: Literal["pgd"] = "pgd"


class Universal(IteratedTraining):
    """One perturbation for all images, improved by every batch (AdvCLIP-LoRA, Ghiasvand et al. 2025)."""

    kind: Literal["universal"] = "universal"


AnyTrainingAttack = Annotated[
    NoAttack | FgsmRs | NFgsm | TrainPgd | Universal, Field(discriminator="kind"), default_kind("pgd")
]
"""What `attack` may be in a trial."""
