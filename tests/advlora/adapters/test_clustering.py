from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from advlora.adapters import clustering as module
from advlora.adapters import memo
from advlora.adapters.clustering import clustered, kmeans
from advlora.config.inits import KMeansInit, NormMatchedInit, RandomClustersInit, SphericalKMeansInit

pytestmark = pytest.mark.unit

SETTINGS = KMeansInit(clusters=5, iterations=25, seed=0)


@pytest.fixture
def weight() -> Tensor:
    return torch.randn(30, 12, generator=torch.Generator().manual_seed(0))


def best_rank(matrix: Tensor, rank: int) -> Tensor:
    u, s, vh = torch.linalg.svd(matrix)
    return u[:, :rank] @ torch.diag(s[:rank]) @ vh[:rank]


def planted() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(40) % 4
    centres = 10 * torch.randn(4, 6, generator=generator)
    return centres[labels] + 0.01 * torch.randn(40, 6, generator=generator), labels


@pytest.mark.parametrize("axis", ["rows", "columns"])
def test_finds_planted_clusters(axis: str) -> None:
    points, labels = planted()
    found = kmeans(points if axis == "rows" else points.T, 4, axis=axis)
    pairs = set(zip(labels.tolist(), found.assignment.tolist(), strict=True))
    assert len(pairs) == 4
    assert found.counts.tolist() == [10] * 4
    assert found.explained_variance > 0.999


def test_is_a_fixed_point_of_lloyd(weight: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOLERANCE", 0.0)
    found = kmeans(weight, 5, iterations=100)
    assert torch.equal(torch.cdist(weight, found.centroids).argmin(1), found.assignment)
    for cluster in range(5):
        torch.testing.assert_close(found.centroids[cluster], weight[found.assignment == cluster].mean(0))


def test_iterations_improve() -> None:
    many = torch.randn(400, 12, generator=torch.Generator().manual_seed(0))
    errors = [(kmeans(many, 20, iterations=n).matrix() - many).norm() for n in (1, 3, 25)]
    assert errors[2] < errors[1] < errors[0]


@pytest.mark.parametrize("axis", ["rows", "columns"])
def test_explained_variance_is_the_energy_of_the_approximation(weight: Tensor, axis: str) -> None:
    found = kmeans(weight, 5, axis=axis)
    assert found.explained_variance == pytest.approx(float((found.matrix().norm() / weight.norm()) ** 2), rel=1e-5)
    lost = float(((weight - found.matrix()).norm() / weight.norm()) ** 2)
    assert found.explained_variance == pytest.approx(1 - lost, rel=1e-5)


def test_columns_are_the_rows_of_the_transpose(weight: Tensor) -> None:
    torch.testing.assert_close(kmeans(weight, 4, axis="columns").matrix(), kmeans(weight.T, 4).matrix().T)


def test_deterministic_for_a_seed(weight: Tensor) -> None:
    before = torch.random.get_rng_state()
    first, again, other = kmeans(weight, 5, seed=1), kmeans(weight, 5, seed=1), kmeans(weight, 5, seed=2)
    assert torch.equal(first.centroids, again.centroids)
    assert not torch.equal(first.centroids, other.centroids)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_as_many_clusters_as_points(weight: Tensor) -> None:
    torch.testing.assert_close(kmeans(weight, len(weight)).matrix(), weight)


def test_duplicates_leave_no_empty_cluster() -> None:
    points = torch.cat([torch.zeros(10, 3), torch.ones(2, 3)])
    found = kmeans(points, 4)
    assert found.counts.min() > 0
    assert found.counts.sum() == 12
    torch.testing.assert_close(found.matrix(), points)


@pytest.mark.parametrize("axis", ["rows", "columns"])
def test_factors_with_as_many_clusters_as_directions(weight: Tensor, axis: str) -> None:
    found = kmeans(weight, 5, axis=axis)
    b, a = found.factors(5)
    torch.testing.assert_close(b @ a, found.matrix(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(b.norm(dim=0), a.norm(dim=1))
    held = a if axis == "rows" else b.T
    cosines = torch.cosine_similarity(held, found.centroids)
    torch.testing.assert_close(cosines, torch.ones(5))


@pytest.mark.parametrize("axis", ["rows", "columns"])
@pytest.mark.parametrize(("clusters", "rank"), [(9, 3), (9, 8), (3, 6)])
def test_factors_are_the_best_of_their_rank(weight: Tensor, clusters: int, rank: int, axis: str) -> None:
    found = kmeans(weight, clusters, axis=axis)
    b, a = found.factors(rank)
    assert len(a) == min(clusters, rank)
    torch.testing.assert_close(b @ a, best_rank(found.matrix(), len(a)), atol=1e-4, rtol=0)
    torch.testing.assert_close(b.norm(dim=0), a.norm(dim=1))


def test_zero_weight_is_harmless() -> None:
    b, a = kmeans(torch.zeros(6, 4), 3).factors(3)
    assert not b.any()
    assert not a.any()


def test_memory_is_shared(weight: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    memo.forget()
    calls = []
    monkeypatch.setattr(module, "kmeans", lambda *args, **kwargs: calls.append(1) or kmeans(*args, **kwargs))
    first = clustered(weight, SETTINGS, 8, 3)
    for same in (SETTINGS, NormMatchedInit(clusters=5, seed=0), KMeansInit(seed=0)):
        assert torch.equal(clustered(weight.clone(), same, 5, 4).centroids, first.centroids)
    assert len(calls) == 1
    for changed in ({"seed": 1}, {"iterations": 3}, {"axis": "columns"}, {"clusters": 6}, {"restarts": 2}):
        clustered(weight, SETTINGS.model_copy(update=changed), 8, 3)
    for other in (SphericalKMeansInit(clusters=5, seed=0), RandomClustersInit(clusters=5, seed=0)):
        clustered(weight, other, 8, 3)
    clustered(weight + 1, SETTINGS, 8, 3)
    assert len(calls) == 9


def test_rank_and_seed_of_the_trial_fill_what_is_left_open(weight: Tensor) -> None:
    found = clustered(weight, KMeansInit(axis="columns"), 4, 9)
    assert torch.equal(found.centroids, kmeans(weight, 4, axis="columns", seed=9).centroids)


def test_disk_is_shared(weight: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memo.forget()
    first = clustered(weight, SETTINGS, 8, 3, tmp_path / "cache")
    assert [file.suffix for file in (tmp_path / "cache").iterdir()] == [".safetensors"]
    memo.forget()
    with monkeypatch.context() as patch:
        patch.setattr(module, "kmeans", None)
        again = clustered(weight, SETTINGS, 8, 3, tmp_path / "cache")
    assert torch.equal(again.centroids, first.centroids)
    assert torch.equal(again.assignment, first.assignment)
    assert again.explained_variance == first.explained_variance


def test_damaged_file_is_replaced(weight: Tensor, tmp_path: Path) -> None:
    memo.forget()
    first = clustered(weight, SETTINGS, 8, 3, tmp_path)
    file = next(tmp_path.iterdir())
    file.write_bytes(b"damaged")
    memo.forget()
    assert torch.equal(clustered(weight, SETTINGS, 8, 3, tmp_path).centroids, first.centroids)
    assert file.stat().st_size > 100


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    memo.forget()
    monkeypatch.setattr(memo, "CAPACITY", 2)
    calls = []

    def compute(key: str) -> dict[str, Tensor]:
        calls.append(key)
        return {}

    for key in ("a", "b", "a", "c", "a", "b"):
        memo.recall(key, lambda key=key: compute(key))
    assert calls == ["a", "b", "c", "b"]


def test_content_decides_the_hash(weight: Tensor) -> None:
    assert memo.content_hash(weight) == memo.content_hash(weight.T.contiguous().T)
    different = [weight, weight.reshape(12, 30), weight.double(), weight.bfloat16(), weight + 1e-6]
    assert len({memo.content_hash(tensor) for tensor in different}) == 5
