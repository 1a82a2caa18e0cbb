"""The YAML of a sweep: a search space, how Optuna walks through it, and how its finalists are confirmed."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from advlora.config import EvaluationProtocol, leaves
from advlora.config.base import Count, Positive, Section, Seed
from advlora.metrics import Metric
from advlora_platform.study.parameters import Sampler, Space
from advlora_platform.study.spec import Study, short_metrics


class SchedulerConfig(Section):
    """Early stopping of weak trials by ASHA (Li et al., 2020) on the objective; several objectives take `none`."""

    kind: Literal["asha", "none"] = "asha"
    """Whether weak trials are stopped early."""
    grace_epochs: Count = 1
    """Epochs that every trial gets."""
    reduction_factor: Annotated[int, Field(ge=2)] = 3
    """One in so many trials goes on at each rung."""


class SearchConfig(Section):
    """How Optuna searches, and for how long."""

    sampler: Sampler = "tpe"
    """Who proposes trials."""
    trials: Count = 20
    """How many trials the search has."""
    seed: Seed = 0
    """Seed of the sampler."""
    objectives: Annotated[tuple[str, ...], Field(min_length=1)] = ("robust",)
    """`robust`, `clean`, or a metric of a trial; `cost/...` and `params/...` are minimised."""
    scheduler: SchedulerConfig = SchedulerConfig()
    """Early stopping of weak trials."""

    @model_validator(mode="before")
    @classmethod
    def _stop_by_none_of_several(cls, content: Any) -> Any:
        """Stops no trial early where there are several objectives: what is weak in one may be best in another."""
        if isinstance(content, dict) and len(content.get("objectives", ())) > 1:
            return {"scheduler": {"kind": "none"}, **content}
        return content


class ConfirmConfig(Section):
    """The second stage of a sweep: its finalists under a strong evaluation, on fresh seeds and `test`.

    A search that ranks by a cheap attack finds configurations that fool it; only what is confirmed is exported.
    """

    protocol: EvaluationProtocol
    """The strong evaluation: the name of a shipped protocol, or its keys."""
    top: Count = 3
    """How many trials are confirmed: the best by the first objective, and the Pareto set of several."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (101, 102, 103)
    """Seeds of the trainings that are evaluated; none of them is the seed of the search."""


class SweepStudy(Study):
    """A search space and how Optuna walks through it."""

    kind: Literal["sweep"] = "sweep"
    parameters: Annotated[Space, Field(min_length=1)]
    """The search space: key of the trial -> its range."""
    points: tuple[dict[str, Any], ...] = ()
    """Known-good points that are run first."""
    search: SearchConfig = SearchConfig()
    """How Optuna searches, and for how long."""
    seed: Seed = 0
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

    @model_validator(mode="after")
    def _transfer_of_finalists(self) -> Self:
        if self.transfer is not None and self.confirm is None:
            raise ValueError(
                "transfer has no effect without confirm: only what is reported is measured on further data sets"
            )
        return self

    @property
    def content(self) -> dict[str, Any]:
        """The base, the space, how it is searched, and how finalists are confirmed."""
        own = self.model_dump(include={"parameters", "points", "seed"})
        confirmed = {} if self.confirm is None else self.confirm.protocol.model_dump()
        return {
            **super().content,
            **own,
            **dict(leaves(self.search.model_dump(exclude={"trials"}), "search.")),
            **dict(leaves(confirmed, "confirm.protocol.")),
        }

    def objectives(self, protocol: EvaluationProtocol | None = None) -> tuple[Metric, ...]:
        """Returns the metrics that the search optimises; the first one selects."""
        short = short_metrics(protocol or self.protocol)
        return tuple(short.get(name) or Metric.parse(name) for name in self.search.objectives)

    @property
    def protocols(self) -> dict[str, EvaluationProtocol]:
        """The evaluation of the search and, where there is one, of the confirmation."""
        return super().protocols | ({} if self.confirm is None else {"confirm.": self.confirm.protocol})

    @property
    def reported_protocol(self) -> EvaluationProtocol:
        """The evaluation of the confirmation where there is one, else that of the search."""
        return self.protocol if self.confirm is None else self.confirm.protocol
