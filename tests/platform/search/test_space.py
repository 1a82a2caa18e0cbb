from __future__ import annotations

from functools import partial

import optuna
import pytest
from pydantic import ValidationError

from advlora.errors import ConfigError
from advlora_platform.search.space import (
    check_space,
    distributions,
    grid,
    grid_problems,
    ordered,
    read_point,
    remaining,
    suggest,
    with_conditions,
)
from advlora_platform.study.trials import resolve
from tests.platform.search.small_searches import space

pytestmark = pytest.mark.unit

INIT = {"type": "categorical", "choices": ["kmeans", "gaussian"]}
SWITCH = {"type": "categorical", "choices": [True, False]}
CLUSTERS = {"type": "int", "low": 2, "high": 4, "step": 2, "when": {"adapter.init": "kmeans"}}


def draws(parameters, number=30):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [suggest(study.ask(), parameters) for _ in range(number)]


def problems(parameters, points=(), base=None):
    return check_space(space(**parameters), points, partial(resolve, base or {}), "parameters")


def test_a_conditional_parameter_exists_only_under_its_condition():
    drawn = draws(space())
    assert {"adapter.init.clusters" in values for values in drawn} == {True, False}
    for values in drawn:
        assert ("adapter.init.clusters" in values) == (values["adapter.init"] == "kmeans")
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
    assert with_conditions(chained, {"adapter.adaptive.initial": 0.5}) == {
        "adapter.adaptive.initial": 0.5,
        "adapter.adaptive.enabled": True,
        "adapter.adaptive.per": "rank",
    }
    assert with_conditions(chained, {"adapter.adaptive.initial": 0.5, "adapter.adaptive.enabled": False}) is None


STEPS = {"type": "int", "low": 1, "high": 5}
WEIGHT = {"type": "float", "low": 0.1, "high": 1}


@pytest.mark.parametrize(
    ("parameters", "base", "said"),
    [
        (
            {"adapter.init": INIT, "adapter.init.clusters": {"type": "int", "low": 2, "high": 4}},
            {},
            "parameters: adapter.init = gaussian does not go with adapter.init.clusters = 2, which a 'when' can rule "
            "out: adapter.init.clusters: has no effect with adapter.init.kind 'gaussian'",
        ),
        (
            {"adapter.kind": {"type": "categorical", "choices": ["lora", "full"]}, "adapter.rank": STEPS},
            {},
            "adapter.kind = full does not go with adapter.rank = 1",
        ),
        (
            {"adapter.alignment.weight": WEIGHT, "adapter.alignment.enabled": SWITCH},
            {},
            "adapter.alignment.weight = 0.1 does not go with adapter.alignment.enabled = False",
        ),
        (
            {
                "adapter.alignment.at": {"type": "categorical", "choices": ["start", "both"]},
                "adapter.alignment.weight": WEIGHT,
            },
            {},
            "adapter.alignment.at = start does not go with adapter.alignment.weight = 0.1",
        ),
        (
            {
                "attack.kind": {"type": "categorical", "choices": ["pgd", "fgsm_rs"]},
                "attack.steps": {"type": "int", "low": 2, "high": 4},
            },
            {},
            "attack.kind = fgsm_rs does not go with attack.steps = 2",
        ),
        ({"adapter.rank": STEPS}, {"adapter": "full"}, "parameters.adapter.rank = 1: adapter.rank: has no effect"),
    ],
)
def test_a_parameter_without_effect_needs_a_condition(parameters, base, said):
    found = problems(parameters, base=base)
    assert found[0].removeprefix("parameters: ").startswith(said.removeprefix("parameters: "))
    assert len(found) == (2 if base else 1)  # at both edges, or once per pair


def test_a_condition_may_name_several_values_and_other_kinds_of_the_base_are_left_behind():
    at = {"type": "categorical", "choices": ["start", "training", "both"]}
    weight = {**WEIGHT, "when": {"adapter.alignment.at": ["training", "both"]}}
    base = {"adapter": {"rank": 4, "init": {"kind": "kmeans", "restarts": 3}}}
    parameters = {"adapter.alignment.at": at, "adapter.alignment.weight": weight, "adapter.init": INIT}
    assert problems(parameters, base=base) == []
    drawn = draws(space(**parameters))
    assert {("adapter.alignment.weight" in values, values["adapter.alignment.at"]) for values in drawn} == {
        (False, "start"),
        (True, "training"),
        (True, "both"),
    }
    other = {**WEIGHT, "when": {"adapter.alignment.at": ["training", "never"]}}
    assert "never is 'never'" in problems({"adapter.alignment.at": at, "adapter.alignment.weight": other})[0]


def test_what_remains_of_a_space_depends_on_the_methods_that_are_fixed():
    kinds = {"type": "categorical", "choices": ["kmeans", "random_clusters", "gaussian"]}
    whole = space(
        **{
            "adapter.rank": STEPS,
            "adapter.init": kinds,
            "adapter.init.clusters": {**STEPS, "when": {"adapter.init": ["kmeans", "random_clusters"]}},
            "adapter.init.restarts": {**STEPS, "when": {"adapter.init": "kmeans"}},
            "adapter.alignment.weight": WEIGHT,
            "optimiser.learning_rate": WEIGHT,
        }
    )

    def left(**values) -> list[str]:
        return list(remaining(whole, {}, {key.replace("__", "."): value for key, value in values.items()}))

    assert left() == list(whole)
    assert left(adapter="full") == ["optimiser.learning_rate"]
    assert left(adapter__kind="adalora") == ["adapter.rank", "optimiser.learning_rate"]
    assert left(adapter__alignment__enabled=False) == [key for key in whole if "alignment" not in key]
    assert left(adapter__init="gaussian", adapter__rank=4) == ["adapter.alignment.weight", "optimiser.learning_rate"]
    random = remaining(whole, {}, {"adapter.init": "random_clusters"})
    assert list(random) == [key for key in whole if key not in ("adapter.init", "adapter.init.restarts")]
    assert random["adapter.init.clusters"].when == {}
    assert left(adapter__init="pissa") == ["adapter.rank", "adapter.alignment.weight", "optimiser.learning_rate"]


def test_a_circle_of_conditions_is_refused():
    circle = {
        "adapter.alignment.enabled": {**SWITCH, "when": {"adapter.adaptive.enabled": True}},
        "adapter.adaptive.enabled": {**SWITCH, "when": {"adapter.alignment.enabled": True}},
    }
    with pytest.raises(ConfigError, match="in a circle"):
        ordered(space(**circle))
    assert "in a circle" in problems(circle)[0]


def test_a_grid_has_every_existing_combination_once():
    points = grid(space(**{"adapter.init.clusters": CLUSTERS, "adapter.init": INIT}))
    assert points == [
        {"adapter.init": "kmeans", "adapter.init.clusters": 2},
        {"adapter.init": "kmeans", "adapter.init.clusters": 4},
        {"adapter.init": "gaussian"},
    ]


def test_a_grid_of_floats_includes_its_end():
    points = grid(space(**{"optimiser.warmup": {"type": "float", "low": 0.0, "high": 0.3, "step": 0.1}}))
    assert [point["optimiser.warmup"] for point in points] == pytest.approx([0, 0.1, 0.2, 0.3])


def test_a_grid_must_be_finite_and_fit_the_budget():
    assert "needs a 'step' or 'choices' for attack.epsilon" in grid_problems(space(), 100, "search")[0]
    small = space(**{"adapter.init": INIT})
    assert grid_problems(small, 2, "search") == []
    assert "has 2 points, but only 1 trials" in grid_problems(small, 1, "search")[0]


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"adapter.rnk": {"type": "int", "low": 1, "high": 2}}, "did you mean 'adapter.rank'"),
        ({"protocol.epsilon": {"type": "float", "low": 0.1, "high": 0.2}}, "chooses a weak one"),
        ({"seed": {"type": "int", "low": 0, "high": 9}}, "luck"),
        ({"resources.workers": {"type": "int", "low": 1, "high": 2}}, "must not vary"),
        ({"adapter.init.clusters": CLUSTERS}, "is not a parameter of this space"),
        ({"adapter.init.clusters": CLUSTERS, "adapter.init": {**INIT, "choices": ["gaussian"]}},
         "never is 'kmeans'; it is 'gaussian'"),
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
        ({"adapter.init": 1}, "'kmeans', 'gaussian'"),
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
    assert read_point(space(), {"attack.epsilon": "8/255", "adapter.init": "kmeans"}) == {
        "attack.epsilon": pytest.approx(8 / 255),
        "adapter.init": "kmeans",
    }


def test_distributions_are_those_that_were_drawn_from():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trial = study.ask()
    values = suggest(trial, space())
    assert distributions(space(), values) == trial.distributions


def test_an_endless_grid_is_refused_without_being_listed():
    epochs = {"type": "int", "low": 1, "high": 2**30}
    rate = {"type": "float", "low": 0, "high": 1, "step": 1e-3}
    (problem,) = grid_problems(space(**{"optimiser.epochs": epochs, "optimiser.learning_rate": rate}), 4, "search")
    assert f"the grid has {2**30 * 1001} points" in problem


@pytest.mark.parametrize("step", [0, -0.1, float("inf")])
def test_a_step_leads_somewhere(step):
    with pytest.raises(ValidationError, match="step"):
        space(**{"optimiser.learning_rate": {"type": "float", "low": 0, "high": 1, "step": step}})
