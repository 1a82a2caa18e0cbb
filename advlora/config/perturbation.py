"""What attacks of training and of the evaluation share: the norm of a perturbation, its bound and its standard step."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from advlora.config.base import Ratio

Norm = Literal["linf", "l2"]
StepSize = Annotated[Ratio, Field(gt=0)] | None
"""Length of a gradient step in the norm; None means the method's standard."""


def check_epsilon(norm: Norm, epsilon: float) -> None:
    """Refuses an L-inf radius beyond the pixel range, which is nearly always `8` written for `8/255`.

    Raises:
        ValueError: If the radius is too large.
    """
    if norm == "linf" and epsilon > 1:
        raise ValueError(
            f"epsilon {epsilon:g} is larger than the whole pixel range [0, 1]; write it as a fraction, "
            f"such as '{epsilon:g}/255'"
        )


def standard_step(epsilon: float, steps: int) -> float:
    """Returns PGD's standard step, 2.5 epsilon / steps (Madry et al. 2018), at most epsilon."""
    return min(2.5 * epsilon / steps, epsilon)
