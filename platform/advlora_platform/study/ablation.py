"""The YAML of an ablation, and its arms: which values each of them gives to the factors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from advlora.config import TrialConfig, applicable, leaves
from advlora.config.base import Count, Real, Section, Seed, Text, given
from advlora_platform.study.designs import Design, aliases, rows
from advlora_platform.study.parameters import Sampler, Space
from advlora_platform.study.spec import Study


class FactorConfig(Section):
    """One component of the method: a key that is switched on and off, or named levels."""

    key: str | None = None
    """Key of the trial that is switched."""
    on: Any = True
    """Its value where the factor is on."""
    off: Any = False
    """Its value where the factor is off."""
    levels: dict[str, dict[str, Any]] = {}
    """Level -> dotted overrides of the base; the first one is the baseline. Instead of `key`, `on` and `off`."""

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.key is None) == (not self.levels):
            raise ValueError("a factor needs either 'key', with 'on' and 'off', or 'levels'")
        if self.levels and given(self, "on", "off"):
            raise ValueError("'on' and 'off' belong to 'key'; with 'levels' they have no effect")
        if len(self.levels) == 1:
            raise ValueError(f"a factor needs two levels or more, not only '{next(iter(self.levels))}'")
        return self

    @property
    def options(self) -> dict[str, dict[str, Any]]:
        """Level -> overrides, the baseline first."""
        return self.levels or {"off": {str(self.key): self.off}, "on": {str(self.key): self.on}}

    def effects(self, name: str) -> tuple[str, ...]:
        """Returns the name of the effect of each level beyond the baseline."""
        return tuple(f"{name}: {level}" for level in list(self.levels)[1:]) or (name,)


class TuningConfig(Section):
    """Nuisance parameters that are tuned before the seeds are run, with the same budget in every arm that is tuned."""

    mode: Literal["retuned", "held", "both"] = "retuned"
    """`retuned`: inside every arm. `held`: in the reference alone, whose values every arm takes. `both`: every arm in
    either way, so that the report shows what depends on it."""
    parameters: Annotated[Space, Field(min_length=1)]
    """What is tuned: key of the trial -> its range."""
    trials: Count = 4
    """Tries of every arm."""
    sampler: Sampler = "tpe"
    """Who proposes them."""
    seed: Seed = 1000
    """Seed of the sampler and of the tuning trials; not one of `seeds`: the choice must not fit a reported seed."""


class AblationStudy(Study):
    """A factorial over components plus further arms, each run with the same seeds."""

    kind: Literal["ablation"] = "ablation"
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0, 1, 2)
    """Seeds that every arm is run with."""
    factors: dict[str, FactorConfig] = {}
    """The components that are switched, by name."""
    design: Design = "factorial"
    """`factorial`: all combinations. `fractional`: the smallest fraction of them with `resolution`. `leave_one_out`:
    all on, and each one off. `one_in`: all off, and each one on, or at each of its levels."""
    resolution: Annotated[int, Field(ge=3)] = 4
    """Of a fraction. 3: effects may be those of pairs. 4: pairs may be one another. 5: neither."""
    exclude: tuple[dict[str, str | bool], ...] = ()
    """Combinations that no arm has: factor -> level; those that are not named may have any."""
    all_on: Text = "all on"
    """Name of the arm with every factor on, or at its last level."""
    all_off: Text = "all off"
    """Name of the arm with every factor off, or at its first level; the reference of comparisons."""
    arms: dict[str, dict[str, Any]] = {}
    """Further arms: name -> dotted overrides of the base (all factors off)."""
    tuning: TuningConfig | None = None
    """What is tuned inside every arm before the seeds are run; None tunes nothing."""
    confidence: Annotated[Real, Field(gt=0, lt=1)] = 0.95
    """Chance that all intervals of one kind hold at once: those of the effects, interactions or comparisons."""
    margin: Annotated[Real, Field(gt=0, le=100)] = 1.0
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

    @model_validator(mode="after")
    def _possible_design(self) -> Self:
        problems = list(_design_problems(self))
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def effects(self) -> dict[str, tuple[str, ...]]:
        """Factor -> the name of the effect of each level beyond the baseline."""
        return {name: factor.effects(name) for name, factor in self.factors.items()}

    @property
    def aliases(self) -> tuple[str, ...]:
        """Effects that a fraction measures as one; empty in other designs."""
        return tuple(aliases(list(self.factors), self.resolution)) if self.design == "fractional" else ()

    @property
    def content(self) -> dict[str, Any]:
        """The base, the arms and how they are tuned."""
        tuning = None if self.tuning is None else self.tuning.model_dump(exclude={"trials"})
        configs = {name: self.trial_with(values).identity() for name, values in self.arm_values.items()}
        varied = {f"arm '{name}': {key}": value for name, config in configs.items() for key, value in leaves(config)}
        return {**super().content, "tuning": tuning, **varied}

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
    factors: dict[str, int] | None
    """The level of each factor, from 0 for the baseline; of a switch, whether it is on. None outside the design."""


def arms(study: AblationStudy) -> list[Arm]:
    """Lists the arms of a study: those of the factors' design, then the further ones."""
    designed = [_factor_arm(study, levels) for levels in _levels(study)]
    off = {key: value for factor in study.factors.values() for key, value in _overrides(factor, 0).items()}
    further = [Arm(name, applicable(TrialConfig, study.base, off, v), None) for name, v in study.arms.items()]
    return designed + further


def reference_arm(study: AblationStudy) -> Arm:
    """Returns the arm in which every factor is off, or the first one where there is none."""
    listed = arms(study)
    off = (arm for arm in listed if arm.factors is not None and not any(arm.factors.values()))
    return next(off, listed[0])


def _levels(study: AblationStudy) -> Iterator[dict[str, int]]:
    """Yields the level of every factor, arm by arm; a switch is on or off."""
    if not study.factors:
        return
    sizes = [len(factor.options) for factor in study.factors.values()]
    switches = [not factor.levels for factor in study.factors.values()]
    banned = [_numbered(study, combination) for combination in study.exclude]
    for row in rows(study.design, sizes, study.resolution):
        levels = dict(zip(study.factors, row, strict=True))
        if not any(each.items() <= levels.items() for each in banned):
            yield {n: bool(levels[n]) if switch else levels[n] for n, switch in zip(levels, switches, strict=True)}


def _numbered(study: AblationStudy, combination: Mapping[str, str | bool]) -> dict[str, int]:
    """Returns the number of each level of a combination; YAML reads `on` and `off` as true and false."""
    words = {True: "on", False: "off"}
    names = {name: words[level] if isinstance(level, bool) else level for name, level in combination.items()}
    return {name: list(study.factors[name].options).index(level) for name, level in names.items()}


def _design_problems(study: AblationStudy) -> Iterator[str]:
    larger = [name for name, factor in study.factors.items() if len(factor.options) > 2]
    if study.design == "fractional" and larger:
        yield f"design: 'fractional' takes factors of two levels, and {', '.join(larger)} has more; use 'factorial'"
    if study.design == "fractional" and len(study.factors) < 3:
        yield "design: 'fractional' needs three factors or more; use 'factorial'"
    if study.design == "fractional" and study.exclude:
        yield "exclude: a fraction is balanced as a whole, so no combination can be left out; use design: factorial"
    if study.design != "fractional" and given(study, "resolution"):
        yield f"resolution: {study.resolution} belongs to design: fractional, and this is '{study.design}'"
    known = True
    for combination in study.exclude:
        for name, level in combination.items():
            options = list(study.factors[name].options) if name in study.factors else []
            word = {True: "on", False: "off"}[level] if isinstance(level, bool) else level
            if word not in options:
                known = False
                allowed = f"it has {', '.join(options)}" if options else f"factors: {', '.join(study.factors)}"
                yield f"exclude: '{name}: {word}' is no level of a factor; {allowed}"
    if known and study.exclude and study.design != "fractional" and not list(_levels(study)):
        yield "exclude: no combination of the factors is left"


def _overrides(factor: FactorConfig, level: int) -> dict[str, Any]:
    return list(factor.options.values())[level]


def _factor_arm(study: AblationStudy, levels: dict[str, int]) -> Arm:
    chosen = {name: _overrides(factor, levels[name]) for name, factor in study.factors.items()}
    on = {key: value for name, values in chosen.items() if levels[name] for key, value in values.items()}
    off = {key: value for name, values in chosen.items() if not levels[name] for key, value in values.items()}
    active = [_level_name(study.factors[name], name, level) for name, level in levels.items() if level]
    last = {name: len(factor.options) - 1 for name, factor in study.factors.items()}
    if not active:
        name = study.all_off
    elif levels == last and max(last.values()) == 1:
        name = study.all_on
    else:
        name = " + ".join(active)
    return Arm(name, applicable(TrialConfig, study.base, off, on), levels)


def _level_name(factor: FactorConfig, name: str, level: int) -> str:
    return f"{name} {list(factor.levels)[level]}" if factor.levels else name
