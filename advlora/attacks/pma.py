"""Probability Margin Attack (Xie et al. 2024, arXiv 2411.15210): PGD on the margin of probabilities, not of logits.

The objective is the paper's probability margin loss L_pm. The search is plain PGD: a random start in the ball, then
steps of fixed length along the sign of the gradient (in L2 along the gradient). The authors' code instead runs two
stages of objectives with a step that decays by a cosine; that schedule is not implemented here.
"""

from __future__ import annotations

from torch import Tensor

from advlora.attacks.case import Case
from advlora.attacks.objectives import margin, named
from advlora.attacks.pursuit import pursue
from advlora.attacks.registry import on_classes
from advlora.config.evaluation_attacks import Pma


@named("probability_margin")
def probability_margin(logits: Tensor, own: Tensor, _: Tensor | None) -> Tensor:
    """Returns max p_j - p_y over j != y, `(B,)`, with p the softmax of the logits `(B, C)`."""
    return margin(logits.softmax(dim=-1), own)


@on_classes(Pma)
def _run(case: Case, attack: Pma, _: int) -> Tensor:
    return pursue(case, attack.objective, case.start(), attack.steps, attack.step(case.threat.epsilon))
