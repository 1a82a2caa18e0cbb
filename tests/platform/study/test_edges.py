from __future__ import annotations

import pytest
from pydantic import TypeAdapter

from advlora_platform.study.edges import edges, wider
from advlora_platform.study.parameters import Parameter

pytestmark = pytest.mark.unit
BOTH = ("smallest", "largest")


def parameter(**content):
    return TypeAdapter(Parameter).validate_python(
        {"type": "categorical" if "choices" in content else "float", **content}
    )


def edge(value, **content):
    return edges({"x": parameter(**content)}, {"x": value}).get("x")


@pytest.mark.parametrize(("value", "found"), [(1e-3, "smallest"), (3e-3, None), (1e-2, "largest")])
def test_the_ends_of_a_list_of_numbers_are_its_edges_in_any_order(value, found):
    assert edge(value, choices=[3e-3, 1e-2, 1e-3]) == found


@pytest.mark.parametrize("choices", [["kmeans", "gaussian"], [True, False], [None, 1, 2], [5]])
def test_what_has_no_order_has_no_edge(choices):
    assert [edge(choice, choices=choices) for choice in choices] == [None] * len(choices)


@pytest.mark.parametrize(
    ("value", "found"), [(0.11e-3, "smallest"), (1e-3, None), (9e-3, "largest"), (1e-2, "largest")]
)
def test_the_outer_tenth_of_a_range_is_its_edge_on_its_scale(value, found):
    assert edge(value, low=1e-4, high=1e-2, log=True) == found
    assert edge(1e-3, low=1e-4, high=1e-2) == "smallest"  # on a linear scale


def test_a_list_goes_on_in_the_ratio_of_its_outer_numbers():
    assert wider(parameter(choices=[1e-3, 3e-3, 1e-2]), ["largest"]).choices == (1e-3, 3e-3, 1e-2, 0.033)
    assert wider(parameter(choices=[2, 4, 8]), BOTH).choices == (1, 2, 4, 8, 16)
    assert wider(parameter(choices=[-1, 0, 1]), BOTH).choices == (-2, -1, 0, 1, 2)
    assert wider(parameter(choices=[1, 2]), ["smallest"]) is None  # below 1 there is no whole number
    assert wider(parameter(choices=["a", "b"]), BOTH) is None


def test_a_range_grows_by_half_on_its_scale_and_keeps_its_sign():
    grown = wider(parameter(low=1e-4, high=1e-2, log=True), BOTH)
    assert (grown.low, grown.high) == (1e-5, 0.1)
    assert wider(parameter(low=0.0, high=0.4), ["largest"]).high == pytest.approx(0.6)
    assert wider(parameter(low=0.0, high=0.4), ["smallest"]) is None
    stepped = wider(parameter(type="int", low=2, high=10, step=2), ["largest"])
    assert (stepped.low, stepped.high, type(stepped.high)) == (2, 14, int)
