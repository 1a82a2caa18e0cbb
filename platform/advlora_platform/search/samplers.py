"""Optuna's samplers by name."""

from __future__ import annotations

from collections.abc import Callable

import optuna
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler

from advlora_platform.study.parameters import Sampler

_BUILDERS: dict[Sampler, Callable[[int], BaseSampler]] = {
    # Multivariate and grouped: parameters that exist together are modelled together (Falkner et al. 2018).
    "tpe": lambda seed: TPESampler(seed=seed, multivariate=True, group=True),
    "gp": lambda seed: GPSampler(seed=seed, warn_independent_sampling=False),
    "cma-es": lambda seed: CmaEsSampler(seed=seed, warn_independent_sampling=False),
    "nsga-ii": lambda seed: NSGAIISampler(seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
    # Grid points are enqueued; the sampler itself draws nothing.
    "grid": lambda seed: RandomSampler(seed=seed),
}


def build_sampler(name: Sampler, seed: int) -> BaseSampler:
    """Builds a sampler whose draws follow from its seed and the results it receives."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return _BUILDERS[name](seed)
