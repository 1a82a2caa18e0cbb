"""From an ablation study to its arms: which values each arm gives to the factors."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from advlora.config import TrialConfig, applicable
from advlora_platform.study.spec import AblationStudy


@dataclass(frozen=True)
class Arm:
    """One row of the ablation table."""

    name: str
    values: dict[str, Any]
    """Dotted overrides of the base configuration."""
    factors: dict[str, bool] | None
    """Which factors are on; None for an arm outside the factorial."""


def arms(study: AblationStudy) -> list[Arm]:
    """Lists the arms of a study: those of the factors' design, then the further ones."""
    designed = [_factor_arm(study, levels) for levels in _levels(study)]
    off = {factor.key: factor.off for factor in study.factors.values()}
    further = [Arm(name, applicable(TrialConfig, study.base, off, v), None) for name, v in study.arms.items()]
    return designed + further


def _levels(study: AblationStudy) -> Iterator[dict[str, bool]]:
    names = list(study.factors)
    if not names:
        return
    if study.design == "factorial":
        for states in itertools.product((False, True), repeat=len(names)):
            yield dict(zip(names, states, strict=True))
        return
    all_alike = study.design == "leave_one_out"
    yield dict.fromkeys(names, all_alike)
    for switched in names:
        yield {name: (name == switched) != all_alike for name in names}


def _factor_arm(study: AblationStudy, levels: dict[str, bool]) -> Arm:
    on = {factor.key: factor.on for name, factor in study.factors.items() if levels[name]}
    off = {factor.key: factor.off for name, factor in study.factors.items() if not levels[name]}
    active = [name for name, switched_on in levels.items() if switched_on]
    if not active:
        name = study.all_off
    elif len(active) == len(levels):
        name = study.all_on
    else:
        name = " + ".join(active)
    return Arm(name, applicable(TrialConfig, study.base, off, on), levels)
