from __future__ import annotations

import typing

import optuna
import pytest

from advlora_platform.search.samplers import build_sampler
from advlora_platform.search.space import suggest
from advlora_platform.study.parameters import Sampler
from tests.platform.search.small_searches import space

pytestmark = pytest.mark.unit
NAMES = typing.get_args(Sampler)


def walk(name: str, seed: int, steps: int = 14) -> list[dict]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=build_sampler(name, seed, steps, 4), direction="maximize")
    drawn = []
    for _ in range(steps):
        trial = study.ask()
        drawn.append(suggest(trial, space()))
        study.tell(trial, -abs(drawn[-1]["adapter.rank"] - 5.0))
    return drawn


@pytest.mark.parametrize("name", NAMES)
def test_every_sampler_draws_conditional_spaces_and_repeats_with_its_seed(name):
    assert walk(name, 1) == walk(name, 1)
    assert walk(name, 1) != walk(name, 2)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "cma-es"])
def test_samplers_take_several_objectives(name):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=build_sampler(name, 0, 12, 4), directions=["maximize", "minimize"])
    for _ in range(12):
        trial = study.ask()
        values = suggest(trial, space())
        study.tell(trial, [values["attack.epsilon"], float(values["adapter.rank"])])
    assert study.best_trials


def test_tpe_finds_a_better_rank_than_chance():
    tail = [values["adapter.rank"] for values in walk("tpe", 0, 40)[20:]]
    random = [values["adapter.rank"] for values in walk("random", 0, 40)[20:]]
    error = lambda ranks: sum(abs(rank - 5) for rank in ranks) / len(ranks)  # noqa: E731
    assert error(tail) < error(random)


@pytest.mark.parametrize(
    ("name", "trials", "size"),
    [("nsga-ii", 8, 4), ("nsga-ii", 40, 8), ("nsga-ii", 1000, 50), ("cma-es", 20, 4), ("cma-es", 500, 8)],
)
def test_a_population_leaves_time_for_several_generations(name, trials, size):
    sampler = build_sampler(name, 0, trials, 4)
    assert (sampler._popsize if name == "cma-es" else sampler.population_size) == size


def test_nsga_ii_learns_within_a_few_trials():
    tail = [values["adapter.rank"] for values in walk("nsga-ii", 0, 40)[20:]]
    random = [values["adapter.rank"] for values in walk("random", 0, 40)[20:]]
    error = lambda ranks: sum(abs(rank - 5) for rank in ranks) / len(ranks)  # noqa: E731
    assert error(tail) < error(random)
