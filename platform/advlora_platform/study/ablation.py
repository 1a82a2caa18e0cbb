"""The YAML of an ablation, and its arms: which values each of them gives to the factors."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from advlora.config import TrialConfig, applicable
from advlora.config.base import Count, Section
from advlora_platform.study.parameters import Sampler, Space
from advlora_platform.study.spec import Study


class FactorConfig(Section):
    """One component of the method that an ablation switches."""

    key: str
    on: Any = True
    off: Any = False


class TuningConfig(Section):
    """Nuisance parameters that are tuned before the seeds are run, with the same budget in every arm that is tuned."""

    mode: Literal["retuned", "held", "both"] = "retuned"
    """`retuned`: inside every arm. `held`: in the reference alone, whose values every arm takes. `both`: every arm in
    either way, so that the report shows what depends on it."""
    parameters: Annotated[Space, Field(min_length=1)]
    trials: Count = 4
    sampler: Sampler = "tpe"
    seed: Annotated[int, Field(ge=0)] = 1000
    """Seed of the sampler and of the tuning trials; not one of `seeds`: the choice must not fit a reported seed."""


class AblationStudy(Study):
    """A factorial over components plus further arms, each run with the same seeds."""

    kind: Literal["ablation"] = "ablation"
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0, 1, 2)
    factors: dict[str, FactorConfig] = {}
    design: Literal["factorial", "leave_one_out", "one_in"] = "factorial"
    """`factorial`: all combinations. `leave_one_out`: all on, and each one off. `one_in`: all off, and each one on."""
    all_on: str = "all on"
    """Name of the arm with every factor on."""
    all_off: str = "all off"
    """Name of the arm with every factor off; the reference of comparisons."""
    arms: dict[str, dict[str, Any]] = {}
    """Further arms: name -> dotted overrides of the base (all factors off)."""
    tuning: TuningConfig | None = None
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Chance that all intervals of one kind hold at once: those of the effects, interactions or comparisons."""
    margin: Annotated[float, Field(gt=0, le=100)] = 1.0
    """The smallest difference that matters, in points. One that certainly lies within it is called equivalent."""
    test_set: Literal["sample", "population"] = "sample"
    """`sample`: the examples are drawn from those that matter, so intervals cover them too. `population`: they are all
    that matter, and only seeds are chance."""
    scatter: Literal["own", "common"] = "own"
    """`own`: every difference has its own scatter over seeds. `common`: all arms scatter alike, which gives many more
    degrees of freedom, and false certainty where it is not true."""
    report: tuple[str, ...] = ()
    """Further metrics, such as `test/attack_success_rate`, that the tables show and arms are compared by."""

    @model_validator(mode="after")
    def _some_arms(self) -> Self:
        if not self.factors and not self.arms:
            raise ValueError("an ablation needs factors or arms")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds {list(self.seeds)} must differ")
        return self

    @property
    def arm_values(self) -> dict[str, dict[str, Any]]:
        """Arm -> the values that define it."""
        return {arm.name: arm.values for arm in arms(self)}


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


def reference_arm(study: AblationStudy) -> Arm:
    """Returns the arm in which every factor is off, or the first one where there is none."""
    listed = arms(study)
    off = (arm for arm in listed if arm.factors is not None and not any(arm.factors.values()))
    return next(off, listed[0])


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
