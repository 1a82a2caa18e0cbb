"""Optuna's samplers by name."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import optuna
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler

from advlora_platform.study.parameters import Sampler

WITH_POPULATION: tuple[Sampler, ...] = ("cma-es", "nsga-ii")
GENERATIONS = 5
"""How often a sampler with a population learns from it at least; with one generation it would draw at random."""
SMALLEST, LARGEST = 4, 50
"""Bounds of a population; Optuna's own is 50 for NSGA-II, whatever the number of trials."""

_BUILDERS: dict[Sampler, Callable[[int, int, int], BaseSampler]] = {
    # Multivariate and grouped: parameters that exist together are modelled together (Falkner et al. 2018).
    "tpe": lambda seed, trials, parameters: TPESampler(seed=seed, multivariate=True, group=True),
    "gp": lambda seed, trials, parameters: GPSampler(seed=seed, warn_independent_sampling=False),
    "cma-es": lambda seed, trials, parameters: CmaEsSampler(
        seed=seed, warn_independent_sampling=False, popsize=_population(trials, 4 + int(3 * math.log(parameters)))
    ),
    "nsga-ii": lambda seed, trials, parameters: NSGAIISampler(seed=seed, population_size=_population(trials, LARGEST)),
    "random": lambda seed, trials, parameters: RandomSampler(seed=seed),
    # Grid points are given; the sampler itself draws nothing.
    "grid": lambda seed, trials, parameters: RandomSampler(seed=seed),
}


def build_sampler(name: Sampler, seed: int, trials: int, parameters: int) -> BaseSampler:
    """Builds a sampler whose draws follow from its seed and the results it receives.

    Args:
        name: As in a study's YAML.
        seed: Of its draws.
        trials: How many trials there will be; populations are such that they have several generations.
        parameters: How many parameters there are.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return _BUILDERS[name](seed, trials, parameters)


def _population(trials: int, largest: int) -> int:
    return max(SMALLEST, min(largest, trials // GENERATIONS))
