from __future__ import annotations

from functools import partial

import optuna
import pytest

from advlora.errors import ConfigError
from advlora_platform.search.space import (
    check_space,
    conditions,
    distributions,
    grid,
    grid_problems,
    ordered,
    read_point,
    suggest,
)
from advlora_platform.study.trials import resolve
from tests.platform.search.conftest import space

pytestmark = pytest.mark.unit

SWITCH = {"type": "categorical", "choices": [True, False]}
CLUSTERS = {"type": "int", "low": 2, "high": 4, "step": 2, "when": {"adapter.clustering.enabled": True}}


def draws(parameters, number=30):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [suggest(study.ask(), parameters) for _ in range(number)]


def problems(parameters, points=(), base=None):
    return check_space(space(**parameters), points, partial(resolve, base or {}), "parameters")


def test_a_conditional_parameter_exists_only_under_its_condition():
    drawn = draws(space())
    assert {"adapter.clustering.clusters" in values for values in drawn} == {True, False}
    for values in drawn:
        assert ("adapter.clustering.clusters" in values) == values["adapter.clustering.enabled"]
        assert 2 <= values["adapter.rank"] <= 16
        assert 2 / 255 <= values["attack.epsilon"] <= 16 / 255


def test_conditions_are_followed_through_other_parameters():
    chained = space(
        **{
            "adapter.adaptive.initial": {
                "type": "float",
                "low": 0,
                "high": 1,
                "when": {"adapter.adaptive.per": "rank"},
            },
            "adapter.adaptive.per": {
                "type": "categorical",
                "choices": ["matrix", "rank"],
                "when": {"adapter.adaptive.enabled": True},
            },
            "adapter.adaptive.enabled": SWITCH,
        }
    )
    assert ordered(chained) == ["adapter.adaptive.enabled", "adapter.adaptive.per", "adapter.adaptive.initial"]
    assert conditions(chained, "adapter.adaptive.initial") == {
        "adapter.adaptive.enabled": True,
        "adapter.adaptive.per": "rank",
    }


def test_a_circle_of_conditions_is_refused():
    circle = {
        "adapter.clustering.enabled": {**SWITCH, "when": {"adapter.adaptive.enabled": True}},
        "adapter.adaptive.enabled": {**SWITCH, "when": {"adapter.clustering.enabled": True}},
    }
    with pytest.raises(ConfigError, match="in a circle"):
        ordered(space(**circle))
    assert "in a circle" in problems(circle)[0]


def test_a_grid_has_every_existing_combination_once():
    points = grid(space(**{"adapter.clustering.clusters": CLUSTERS, "adapter.clustering.enabled": SWITCH}))
    assert points == [
        {"adapter.clustering.enabled": True, "adapter.clustering.clusters": 2},
        {"adapter.clustering.enabled": True, "adapter.clustering.clusters": 4},
        {"adapter.clustering.enabled": False},
    ]


def test_a_grid_of_floats_includes_its_end():
    points = grid(space(**{"optimiser.warmup": {"type": "float", "low": 0.0, "high": 0.3, "step": 0.1}}))
    assert [point["optimiser.warmup"] for point in points] == pytest.approx([0, 0.1, 0.2, 0.3])


def test_a_grid_must_be_finite_and_fit_the_budget():
    assert "needs a 'step' or 'choices' for attack.epsilon" in grid_problems(space(), 100, "search")[0]
    small = space(**{"adapter.clustering.enabled": SWITCH})
    assert grid_problems(small, 2, "search") == []
    assert "has 2 points, but only 1 trials" in grid_problems(small, 1, "search")[0]


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"adapter.rnk": {"type": "int", "low": 1, "high": 2}}, "did you mean 'adapter.rank'"),
        ({"protocol.epsilon": {"type": "float", "low": 0.1, "high": 0.2}}, "chooses a weak one"),
        ({"seed": {"type": "int", "low": 0, "high": 9}}, "luck"),
        ({"resources.workers": {"type": "int", "low": 1, "high": 2}}, "must not vary"),
        ({"adapter.clustering.clusters": CLUSTERS}, "is not a parameter of this space"),
        ({"adapter.clustering.clusters": CLUSTERS, "adapter.clustering.enabled": {**SWITCH, "choices": [False]}},
         "never is True; it is False"),
        ({"adapter.rank": {"type": "int", "low": 0, "high": 4}}, "adapter.rank = 0"),
        ({"attack.kind": {"type": "categorical", "choices": ["pgd", "pdg"]}}, "did you mean 'pgd'"),
    ],
)  # fmt: skip
def test_what_cannot_be_searched_is_said_before_it_is(parameters, said):
    found = problems(parameters)
    assert len(found) == 1
    assert said in found[0]


@pytest.mark.parametrize(
    ("point", "said"),
    [
        ({"adapter.rnk": 4}, "did you mean 'adapter.rank'"),
        ({"adapter.rank": 64}, "from 2 to 16"),
        ({"adapter.rank": 4.5}, "4.5 is not allowed"),
        ({"adapter.rank": True}, "True is not allowed"),
        ({"adapter.clustering.enabled": 1}, "True, False"),
        ({"attack.epsilon": "64/255"}, "'64/255' is not allowed"),
    ],
)
def test_a_point_outside_the_space_is_refused(point, said):
    found = check_space(
        space(), [{"adapter.rank": 4, "attack.epsilon": "8/255"}, point], partial(resolve, {}), "parameters"
    )
    assert len(found) == 1
    assert found[0].startswith("points[1]")
    assert said in found[0]


def test_fractions_in_points_are_read():
    assert read_point(space(), {"attack.epsilon": "8/255", "adapter.clustering.enabled": True}) == {
        "attack.epsilon": pytest.approx(8 / 255),
        "adapter.clustering.enabled": True,
    }


def test_distributions_are_those_that_were_drawn_from():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trial = study.ask()
    values = suggest(trial, space())
    assert distributions(space(), values) == trial.distributions
