"""The YAML of a study: what varies around which base, evaluated how, with which budget.

Two kinds. An *ablation* answers "which part earns its cost?" with arms, seeds and intervals. A *sweep* searches a
space with Optuna. Both share the base configuration and the fixed evaluation protocol.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from advlora.config import EvaluationProtocol
from advlora.config.base import Count, Positive, Ratio, Section
from advlora.metrics import Metric, epsilon_label

ATTACK_SUCCESS, SUCCESS = "attack_success_rate", "success_"
"""How often a backdoor's trigger works; and, before the name of a recall, how often an attack on retrieval does."""
COSTS = ("cost/seconds", "cost/forward_equivalents", "cost/peak_memory_mb")


def _listed(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else (value,)


Choice = bool | int | float | str | None
When = dict[str, Annotated[tuple[Choice, ...], Field(min_length=1), BeforeValidator(_listed)]]
"""Other parameters, and the value or the values at which this one exists."""


class CategoricalParameter(Section):
    """One of a list of values, without order."""

    type: Literal["categorical"]
    choices: Annotated[tuple[Choice, ...], Field(min_length=1)]
    when: When = {}


class IntParameter(Section):
    """A whole number from `low` to `high`, both included."""

    type: Literal["int"]
    low: int
    high: int
    step: Count = 1
    log: bool = False
    when: When = {}

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_bounds(self.low, self.high, self.log)
        if self.log and self.step != 1:
            raise ValueError("a parameter on a log scale takes no step")
        return self


class FloatParameter(Section):
    """A real number from `low` to `high`; bounds may be written as fractions (`4/255`)."""

    type: Literal["float"]
    low: Ratio
    high: Ratio
    step: Ratio | None = None
    log: bool = False
    when: When = {}

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_bounds(self.low, self.high, self.log)
        if self.log and self.step is not None:
            raise ValueError("a parameter on a log scale takes no step")
        return self


def _check_bounds(low: float, high: float, log: bool) -> None:
    if low > high:
        raise ValueError(f"low {low:g} is above high {high:g}")
    if log and low <= 0:
        raise ValueError(f"low {low:g} must be positive on a log scale")


def extremes(parameter: CategoricalParameter | IntParameter | FloatParameter) -> tuple[Choice, ...]:
    """Returns the values at the edges of a parameter, where a configuration is most likely to be impossible."""
    if isinstance(parameter, CategoricalParameter):
        return parameter.choices
    return (parameter.low, parameter.high)


Parameter = Annotated[CategoricalParameter | IntParameter | FloatParameter, Field(discriminator="type")]
Space = dict[str, Parameter]

Sampler = Literal["tpe", "gp", "cma-es", "nsga-ii", "random", "grid"]


class SchedulerConfig(Section):
    """Early stopping of weak trials by ASHA (Li et al., 2020) on the first objective."""

    kind: Literal["asha", "none"] = "asha"
    grace_epochs: Count = 1
    reduction_factor: Annotated[int, Field(ge=2)] = 3


class SearchConfig(Section):
    """How Optuna searches, and for how long."""

    sampler: Sampler = "tpe"
    trials: Count = 20
    seed: Annotated[int, Field(ge=0)] = 0
    objectives: Annotated[tuple[str, ...], Field(min_length=1)] = ("robust",)
    """`robust`, `clean`, or a metric of a trial; `cost/...` and `params/...` are minimised."""
    scheduler: SchedulerConfig = SchedulerConfig()


class ConfirmConfig(Section):
    """The second stage of a sweep: its finalists under a strong evaluation, on fresh seeds and `test`.

    A search that ranks by a cheap attack finds configurations that fool it; only what is confirmed is exported.
    """

    protocol: EvaluationProtocol
    top: Count = 3
    """How many trials are confirmed: the best by the first objective, and the Pareto set of several."""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (101, 102, 103)
    """Of the trainings that are evaluated; none of them is the seed of the search."""


class FactorConfig(Section):
    """One component of the method that an ablation switches."""

    key: str
    on: Any = True
    off: Any = False


class TuningConfig(Section):
    """Nuisance parameters that are tuned inside every arm, with the same budget, before the seeds are run."""

    parameters: Annotated[Space, Field(min_length=1)]
    trials: Count = 4
    sampler: Sampler = "tpe"
    seed: Annotated[int, Field(ge=0)] = 1000
    """Of the sampler and of the tuning trials; not one of `seeds`, lest the choice be fitted to a reported seed."""


class StudyBase(Section):
    """What both kinds of study share."""

    name: str
    description: str = ""
    base: dict[str, Any] = {}
    """The trial configuration that everything is measured around (a partial `TrialConfig`)."""
    protocol: EvaluationProtocol = EvaluationProtocol()
    max_concurrent: Count | None = None
    """Upper bound of trials at once; None means as many as the cluster holds."""

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
            raise ValueError(f"{name!r} is not allowed; use letters, digits, '.', '_' and '-', at most 64")
        return name


class AblationStudy(StudyBase):
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
    report: tuple[str, ...] = ()
    """Further metrics, such as `test/attack_success_rate`, that the tables show and arms are compared by."""

    @model_validator(mode="after")
    def _some_arms(self) -> Self:
        if not self.factors and not self.arms:
            raise ValueError("an ablation needs factors or arms")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds {list(self.seeds)} must differ")
        return self


class SweepStudy(StudyBase):
    """A search space and how Optuna walks through it."""

    kind: Literal["sweep"] = "sweep"
    parameters: Annotated[Space, Field(min_length=1)]
    points: tuple[dict[str, Any], ...] = ()
    """Known-good points that are run first."""
    search: SearchConfig = SearchConfig()
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of every trial (the search has its own)."""
    budget_seconds: Positive | None = None
    """No new trial of the search starts after this many seconds of running."""
    confirm: ConfirmConfig | None = None
    """None ranks and exports by the search alone."""

    @model_validator(mode="after")
    def _fresh_seeds(self) -> Self:
        if self.confirm is not None and self.seed in self.confirm.seeds:
            raise ValueError(f"confirm.seeds must not hold {self.seed}, the seed of the search: it was selected on")
        return self


Study = AblationStudy | SweepStudy


def objective_metrics(study: Study, protocol: EvaluationProtocol | None = None) -> tuple[str, ...]:
    """Returns the metric names that a study is judged by; the first one selects.

    Args:
        study: Names its objectives.
        protocol: Of another evaluation than the study's own.
    """
    epsilon = (protocol or study.protocol).epsilon
    names = {"robust": str(Metric.robust("val", epsilon)), "clean": str(Metric.clean("val"))}
    objectives = study.search.objectives if isinstance(study, SweepStudy) else ("robust",)
    return tuple(names.get(objective, objective) for objective in objectives)


def metric_names(study: Study) -> tuple[str, ...]:
    """Returns the metrics that a finished trial has on `val`, and its costs and sizes."""
    epsilons = (study.protocol.epsilon, *study.protocol.curve)
    accuracies = (str(Metric.clean("val")), *(str(Metric.robust("val", epsilon)) for epsilon in epsilons))
    return (*accuracies, *COSTS, "params/trainable", "params/trainable_fraction")


def reportable(study: Study) -> tuple[str, ...]:
    """Returns the metrics that an ablation may report beside robust and clean accuracy.

    Which of them a trial has follows from its data: recalls with captions, `attack_success_rate` with a backdoor.
    """
    epsilons = dict.fromkeys((study.protocol.epsilon, *study.protocol.curve))
    ways = ("", "itm_") if study.protocol.rerank else ("",)
    single = [f"{way}{side}_r{depth}" for way in ways for side in ("tr", "ir") for depth in (1, 5, 10)]
    names = [*single, *(f"{way}mean_recall" for way in ways)]
    recalls = [f"clean_{name}" for name in names]
    recalls += [f"robust_{name}:{epsilon_label(epsilon)}" for epsilon in epsilons for name in names]
    recalls += [f"{SUCCESS}{name}:{epsilon_label(epsilon)}" for epsilon in epsilons for name in single]
    return tuple(
        metric
        for split in ("test", "val")
        for metric in (
            str(Metric.clean(split)),
            *(str(Metric.robust(split, epsilon)) for epsilon in epsilons),
            f"{split}/{ATTACK_SUCCESS}",
            *(f"{split}/{name}" for name in recalls),
        )
    )


def direction(metric: str) -> Literal["min", "max"]:
    """Costs, sizes and the success of attacks and backdoors are minimised, everything else is maximised."""
    head, _, name = metric.partition("/")
    return "min" if head in ("cost", "params") or name == ATTACK_SUCCESS or name.startswith(SUCCESS) else "max"
