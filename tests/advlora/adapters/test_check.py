from __future__ import annotations

import pytest

from advlora.adapters import check_adapter
from tests.advlora.short_trials import adapter

pytestmark = pytest.mark.unit

SHAPES = {"q": (32, 32), "fc": (128, 32), "proj": (24, 96)}


def problems(**values) -> list[str]:
    config = adapter(**values)
    return check_adapter(config, SHAPES, {name: config.rank_of("query") for name in SHAPES})


def test_fits() -> None:
    assert problems(rank=24) == []
    assert problems(init={"clusters": 24}) == []
    assert problems(init={"clusters": 32, "axis": "columns"}) == []


def test_rank_above_the_shorter_side() -> None:
    (sentence,) = problems(rank=25)
    assert sentence.startswith("adapter.rank: 25 is above 24, the shorter side of layer 'proj'")


@pytest.mark.parametrize(("axis", "limit", "layer"), [("rows", 24, "proj"), ("columns", 32, "q")])
def test_more_clusters_than_points(axis: str, limit: int, layer: str) -> None:
    (sentence,) = problems(init={"clusters": limit + 1, "axis": axis})
    assert f"adapter.init.clusters: {limit + 1} is above {limit}, the number of {axis} of layer '{layer}'" in sentence


def test_every_problem_is_named() -> None:
    assert len(problems(rank=25, init={"clusters": 25})) == 2


@pytest.mark.parametrize("kind", ["kmeans", "spherical_kmeans", "random_clusters", "norm_matched"])
def test_every_initialisation_that_needs_clusters_is_checked(kind: str) -> None:
    assert len(problems(init={"kind": kind, "clusters": 500})) == 1
