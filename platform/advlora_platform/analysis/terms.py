"""`Terms`: by what a study judges differences, declared before it runs; and what is known of its examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from advlora.config.protocol import SamplesConfig
from advlora.metrics import Metric
from advlora_platform.analysis.arms import ArmResult
from advlora_platform.analysis.blocks import scatter
from advlora_platform.study.outcomes import Scores, Shelf


@dataclass(frozen=True)
class Terms:
    """By what a study judges differences.

    Attributes:
        seeds: Planned number of seeds.
        alpha: How often, at most, any of the answers to questions that are asked together may be wrong.
        margin: Smallest difference that matters, as a fraction.
        samples: How many samples of each split are evaluated.
        outcomes: What became of every example; empty where the examples are no source of chance.
        alike: All arms, where the study declares that they scatter alike over seeds; otherwise none.
    """

    seeds: int
    alpha: float = 0.05
    margin: float = 0.01
    samples: SamplesConfig = field(default_factory=SamplesConfig)
    outcomes: Shelf = field(default_factory=Shelf)
    alike: Sequence[ArmResult] = ()

    def scores(self, arm: ArmResult, seed: int, metric: str) -> Scores | None:
        """Returns what each example adds to a metric, `(N,)`; None where that is not known."""
        trial = next((trial.trial_id for trial in arm.trials if trial.seed == seed and trial.status == "done"), None)
        return None if trial is None else self.outcomes.scores(trial, metric)

    def grain(self, metric: str) -> float:
        """Returns the step of a metric: an accuracy over N examples is a multiple of 1 / N; 0 for other numbers."""
        measured = Metric.parse(metric)
        return 1 / getattr(self.samples, measured.split) if measured.on_data else 0.0

    def scatter(self, metric: str) -> tuple[float, int] | None:
        """Returns the variance over seeds that all arms share, with its degrees of freedom; None for none."""
        if metric not in self._scatters:
            self._scatters[metric] = self._scatter(metric)
        return self._scatters[metric]

    @cached_property
    def _scatters(self) -> dict[str, tuple[float, int] | None]:
        return {}

    def _scatter(self, metric: str) -> tuple[float, int] | None:
        values = [arm.by_seed(metric) for arm in self.alike]
        seeds = list(dict.fromkeys(seed for arm in values for seed in arm))
        if not seeds:
            return None
        found = scatter(np.array([[arm.get(seed, np.nan) for seed in seeds] for arm in values]).reshape(-1, len(seeds)))
        return found if found[1] else None
