"""Noise as an attack: the control that every gradient has to beat."""

from __future__ import annotations

import torch
from torch import Tensor

from advlora.attacks.case import Case
from advlora.attacks.objectives import is_right
from advlora.attacks.registry import on_classes
from advlora.config.evaluation_attacks import Noise


@on_classes(Noise)
def noise(case: Case, _: Noise, __: int) -> Tensor:
    """Returns which images withstand one draw from the ball, `(B,)`."""
    with torch.no_grad():
        return is_right(case.classify(case.start()), case.labels)
