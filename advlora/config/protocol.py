"""`EvaluationProtocol`: how every trial of a study is examined. Fixed per study, never searchable."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from advlora.config.base import Count, Ratio, Section


class EvaluationAttackConfig(Section):
    """A white-box attack of the protocol: PGD in pixel space [0, 1] (Madry et al. 2018)."""

    kind: Literal["pgd"] = "pgd"
    loss: Literal["cross_entropy", "margin"] = "cross_entropy"
    """`margin`: the difference of logits of Carlini & Wagner (2017), blind to saturated cross-entropy."""
    norm: Literal["linf", "l2"] = "linf"
    steps: Count = 10
    step_size: Annotated[Ratio, Field(gt=0)] | None = None
    """None means 2.5 epsilon / steps, at most epsilon."""
    restarts: Count = 1

    def describe(self, epsilon: float) -> str:
        """Names the attack for a reader, such as `PGD-10 (cross-entropy, L-inf 8/255)`."""
        repeated = f" with {self.restarts} restarts" if self.restarts > 1 else ""
        norm = {"linf": "L-inf", "l2": "L2"}[self.norm]
        step = "" if self.step_size is None else f", step {_readable(self.step_size)}"
        return f"PGD-{self.steps}{repeated} ({self.loss.replace('_', '-')}, {norm} {_readable(epsilon)}{step})"


class SamplesConfig(Section):
    """How many samples of each split are examined (the first ones)."""

    val: Count = 500
    test: Count = 1000


class EvaluationProtocol(Section):
    """Attacks, strengths and samples; robust accuracy counts an image only if it withstands every attack."""

    attacks: Annotated[tuple[EvaluationAttackConfig, ...], Field(min_length=1)] = (EvaluationAttackConfig(),)
    epsilon: Annotated[Ratio, Field(gt=0)] = 8 / 255
    """The main strength: trials are selected by it."""
    curve: tuple[Annotated[Ratio, Field(gt=0)], ...] = ()
    """Further strengths, measured on the final model only."""
    samples: SamplesConfig = SamplesConfig()
    interval: Annotated[int, Field(ge=0)] = 1
    """Epochs between evaluations on `val` during training; 0 means at the end only."""
    batch_size: Count = 250
    rerank: Annotated[int, Field(ge=0)] = 0
    """Retrieval: candidates per query that a matching head orders anew (BLIP: 128); 0 for none."""
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _epsilons_fit_norm(self) -> Self:
        linf = any(attack.norm == "linf" for attack in self.attacks)
        for epsilon in (self.epsilon, *self.curve):
            if linf and epsilon > 1:
                raise ValueError(
                    f"epsilon {epsilon:g} is larger than the whole pixel range [0, 1]; write it as a fraction, "
                    f"such as '{epsilon:g}/255'"
                )
        return self

    def describe(self) -> str:
        """Says in one clause what a number under this protocol means.

        Such as `PGD-10 (cross-entropy, L-inf 8/255), 400 val / 1000 test images`.
        """
        attacks = " and ".join(attack.describe(self.epsilon) for attack in self.attacks)
        worst = "worst case of " if len(self.attacks) > 1 else ""
        return f"{worst}{attacks}, {self.samples.val} val / {self.samples.test} test images"


def clean_metric(split: str) -> str:
    """Name of clean accuracy, such as `val/clean_r1` (recall at 1 against the class texts)."""
    return f"{split}/clean_r1"


def robust_metric(split: str, epsilon: float) -> str:
    """Name of robust accuracy, such as `val/robust_r1:8_255`.

    The strength follows a colon because MLflow refuses `@` in metric names.
    """
    return f"{split}/robust_r1:{strength(epsilon)}"


def strength(epsilon: float) -> str:
    """Writes a radius as a part of a name: `8_255` for 8/255 (in halves up to 64/255), else the decimal number."""
    steps = round(epsilon * 255 * 2) / 2
    if 0 < steps <= 64 and abs(steps - epsilon * 255) < 1e-6:
        return f"{steps:g}_255"
    return f"{epsilon:g}"


def _readable(epsilon: float) -> str:
    return strength(epsilon).replace("_", "/")
