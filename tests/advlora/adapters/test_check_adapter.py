from __future__ import annotations

import pytest

from advlora.adapters import check_adapter
from advlora.config import AdapterConfig, parse

pytestmark = pytest.mark.unit

SHAPES = {"q": (32, 32), "fc": (128, 32), "proj": (24, 96)}


def problems(**values) -> list[str]:
    return check_adapter(parse(AdapterConfig, values), SHAPES)


def test_fits() -> None:
    assert problems(rank=24) == []
    assert problems(clustering={"clusters": 24}) == []
    assert problems(clustering={"clusters": 32, "axis": "columns"}) == []


def test_rank_above_the_shorter_side() -> None:
    (sentence,) = problems(rank=25)
    assert sentence.startswith("adapter.rank: 25 is above 24, the shorter side of layer 'proj'")


@pytest.mark.parametrize(("axis", "limit", "layer"), [("rows", 24, "proj"), ("columns", 32, "q")])
def test_more_clusters_than_points(axis: str, limit: int, layer: str) -> None:
    (sentence,) = problems(clustering={"clusters": limit + 1, "axis": axis})
    assert (
        f"adapter.clustering.clusters: {limit + 1} is above {limit}, the number of {axis} of layer '{layer}'"
        in sentence
    )


def test_every_problem_is_named() -> None:
    assert len(problems(rank=25, clustering={"clusters": 25})) == 2


def test_clusters_matter_only_where_they_are_used() -> None:
    many = {"enabled": False, "clusters": 500}
    assert problems(clustering=many) == []
    assert len(problems(clustering=many, start="norm_matched")) == 1


@pytest.mark.parametrize("kind", ["full", "linear_probe", "none"])
def test_other_kinds_have_no_rank(kind: str) -> None:
    assert problems(kind=kind, rank=500) == []
