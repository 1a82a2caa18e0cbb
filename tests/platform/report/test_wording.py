from __future__ import annotations

import pytest

from advlora_platform.analysis import Contrast, Estimate
from advlora_platform.report.wording import (
    amount,
    assignments,
    difference,
    mean_with_interval,
    mean_with_margin,
    measured,
    percent,
    points,
    probability,
    short_names,
    short_titles,
    title_of,
)

pytestmark = pytest.mark.unit


def test_accuracies_are_percentages_and_differences_are_signed_points():
    assert [percent(0.5734), percent(None), percent(1.0)] == ["57.3", "–", "100.0"]
    assert [points(0.019), points(-0.003), points(-0.0001), points(None)] == ["+1.9", "-0.3", "+0.0", "–"]


def test_a_mean_shows_its_interval_where_it_has_one():
    found = Estimate(mean=0.573, sd=0.01, n=3, low=0.561, high=0.585)
    assert (mean_with_margin(found), mean_with_interval(found)) == ("57.3 ± 1.2", "57.3 (56.1 to 58.5)")
    single = Estimate(0.573, None, 1, None, None)
    assert (mean_with_margin(single), mean_with_interval(single), mean_with_margin(None)) == ("57.3", "57.3", "–")


def test_a_difference_shows_its_interval_with_signs():
    found = Estimate(0.019, 0.01, 3, -0.002, 0.04)
    contrast = Contrast("a", "test/clean_r1", {}, 3, (), found, 0.04, 0.08, 0.01, "unresolved", "")
    assert difference(contrast) == "+1.9 (-0.2 to +4.0)"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.00123, "0.00123"),
        (7.5, "7.5"),
        (37.44, "37.4"),
        (812.3, "812"),
        (25000, "25k"),
        (1.24e6, "1.24M"),
    ],
)
def test_costs_are_short(value, text):
    assert amount(value) == text


def test_small_p_values_are_not_called_zero():
    assert [probability(p) for p in (0.0, 0.0421, 1.0, None)] == ["< 0.001", "0.042", "1.000", "–"]


def test_metrics_are_written_in_their_unit():
    assert measured("val/clean_r1", 0.5) == "50.0"
    assert measured("params/trainable_fraction", 0.0312) == "3.12"
    assert measured("cost/seconds", 20.0) == "20.0"
    assert title_of("val/robust_r1:8_255") == "val robust 8/255 (%)"
    assert title_of("test/clean_r1") == "test clean (%)"
    assert title_of("cost/seconds") == "training s"
    assert title_of("params/trainable") == "params/trainable"


def test_a_short_title_keeps_the_radius_only_where_there_are_several():
    assert short_titles(["test/robust_r1:8_255", "test/clean_r1"]) == {
        "test/robust_r1:8_255": "robust",
        "test/clean_r1": "clean",
    }
    several = short_titles(["test/robust_r1:8_255", "test/robust_r1:4_255", "val/robust_r1:8_255"])
    assert list(several.values()) == ["robust 8/255", "robust 4/255", "val robust"]


def test_a_short_name_is_the_shortest_that_tells_keys_apart():
    names = short_names(["attack.epsilon", "adapter.alignment.weight", "optimiser.weight", "adapter.adaptive.enabled"])
    assert list(names.values()) == ["epsilon", "alignment.weight", "optimiser.weight", "adaptive"]
    assert short_names(["seed", "adapter.init.seed"]) == {
        "seed": "seed",
        "adapter.init.seed": "init.seed",
    }


def test_values_are_written_for_people():
    values = {"a.rate": 0.00213847, "a.rank": 8, "a.on.enabled": True, "a.clusters": None, "a.init.kind": "pissa"}
    assert assignments(values, short_names(values)) == "rate=0.002138, rank=8, on=on, clusters=none, init=pissa"
