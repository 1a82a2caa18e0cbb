from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from advlora.adapters import memo
from advlora.adapters.alignment import refit
from advlora.adapters.clustering import Clustering, kmeans
from advlora.adapters.inits import Start, singular
from advlora.config.inits import ClusterInit
from tests.advlora.short_trials import adapter

pytestmark = pytest.mark.unit

OFF = {"alignment": {"enabled": False}}
RANK, SCALE = 4, 2.0


@pytest.fixture
def weight() -> Tensor:
    return torch.randn(24, 16, generator=torch.Generator().manual_seed(0))


def start(seed: int = 0, folder: Path | None = None, **values) -> Start:
    return Start(adapter(**{"rank": RANK, "alpha": SCALE * RANK, **values}), seed, folder)


def clusters(weight: Tensor, start: Start) -> Clustering:
    init = start.config.init
    assert isinstance(init, ClusterInit)
    return start.clustering(init, weight)


def product(factors: tuple[Tensor, Tensor]) -> Tensor:
    return SCALE * factors[0] @ factors[1]


def test_clustered(weight: Tensor) -> None:
    factors = start(**OFF).factors(weight)
    torch.testing.assert_close(product(factors), kmeans(weight, RANK).matrix(), atol=1e-5, rtol=1e-4)


def test_cluster_settings_reach_kmeans(weight: Tensor) -> None:
    settings = {"clusters": 3, "axis": "columns", "iterations": 2, "seed": 7}
    found = clusters(weight, start(init=settings))
    expected = kmeans(weight, 3, axis="columns", iterations=2, seed=7)
    assert torch.equal(found.centroids, expected.centroids)
    by_trial = clusters(weight, start(seed=9, init={**settings, "seed": None}))
    assert torch.equal(by_trial.centroids, kmeans(weight, 3, axis="columns", iterations=2, seed=9).centroids)


def test_directions_beyond_the_clusters_start_as_in_lora(weight: Tensor) -> None:
    b, a = start(init={"clusters": 3}, **OFF).factors(weight)
    torch.testing.assert_close(product((b, a)), kmeans(weight, 3).matrix(), atol=1e-5, rtol=1e-4)
    assert not b[:, 3].any()
    assert a[3].any()


def test_gaussian_is_zero_with_the_spread_of_peft() -> None:
    wide = torch.randn(8, 3000, generator=torch.Generator().manual_seed(0))
    b, a = start(init="gaussian", **OFF).factors(wide)
    stock = get_peft_model(nn.Sequential(nn.Linear(3000, 8)), LoraConfig(r=RANK, target_modules=["0"]))
    assert not b.any()
    assert a.std() == pytest.approx(float(stock.base_model.model[0].lora_A["default"].weight.std()), rel=0.05)
    assert float((a / a.std()).pow(4).mean()) == pytest.approx(3, abs=0.3)


def test_norm_matched_has_the_norm_and_nothing_else(weight: Tensor) -> None:
    random = product(start(init={"kind": "norm_matched", "clusters": 6}, **OFF).factors(weight))
    b, a = kmeans(weight, 6).factors(RANK)
    assert random.norm() == pytest.approx(float((b @ a).norm()), rel=1e-4)
    assert abs(float((random * (b @ a)).sum() / (b @ a).norm() ** 2)) < 0.5


@pytest.mark.parametrize("name", ["gaussian", "norm_matched"])
def test_random_starts_follow_seed_and_weight(weight: Tensor, name: str) -> None:
    def a(seed: int, matrix: Tensor) -> Tensor:
        return start(seed, init=name, **OFF).factors(matrix)[1]

    before = torch.random.get_rng_state()
    assert torch.equal(a(0, weight), a(0, weight.clone()))
    assert not torch.equal(a(0, weight), a(1, weight))
    assert not torch.equal(a(0, weight), a(0, weight.flip(0)))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_pissa_is_that_of_peft(weight: Tensor) -> None:
    layer = nn.Linear(16, 24, bias=False)
    layer.weight.data = weight.clone()
    config = LoraConfig(r=RANK, lora_alpha=SCALE * RANK, init_lora_weights="pissa", target_modules=["0"])
    stock = get_peft_model(nn.Sequential(layer), config).base_model.model[0]
    b, a = start(init="pissa", **OFF).factors(weight)
    torch.testing.assert_close(a, stock.lora_A["default"].weight.detach())
    torch.testing.assert_close(b, stock.lora_B["default"].weight.detach())


def test_olora_is_that_of_peft(weight: Tensor) -> None:
    layer = nn.Linear(16, 24, bias=False)
    layer.weight.data = weight.clone()
    config = LoraConfig(r=RANK, lora_alpha=SCALE * RANK, init_lora_weights="olora", target_modules=["0"])
    stock = get_peft_model(nn.Sequential(layer), config).base_model.model[0]
    b, a = start(init="olora", **OFF).factors(weight)
    torch.testing.assert_close(a, stock.lora_A["default"].weight.detach())
    torch.testing.assert_close(b, stock.lora_B["default"].weight.detach())
    torch.testing.assert_close(weight - product((b, a)), stock.get_base_layer().weight.detach())
    torch.testing.assert_close(b.T @ b, torch.eye(RANK))


def test_milora_holds_the_trailing_directions(weight: Tensor) -> None:
    part = product(start(init="milora", **OFF).factors(weight))
    values = torch.linalg.svdvals(weight)
    torch.testing.assert_close(torch.linalg.svdvals(part)[:RANK], values[-RANK:], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(torch.linalg.svdvals(weight - part)[:12], values[:12], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("at", ["start", "both"])
@pytest.mark.parametrize("name", ["kmeans", "random_clusters", "gaussian", "norm_matched", "pissa", "milora"])
def test_alignment_refits_b(weight: Tensor, name: str, at: str) -> None:
    plain = start(init=name, **OFF).factors(weight)
    b, a = start(init=name, alignment={"at": at, "ridge": 0.01}).factors(weight)
    assert torch.equal(a, plain[1])
    torch.testing.assert_close(SCALE * b, refit(weight, a, 0.01))
    assert (product((b, a)) - weight).norm() <= (product(plain) - weight).norm() * 1.001


def test_alignment_in_training_leaves_the_start(weight: Tensor) -> None:
    plain = start(alignment={"enabled": False}).factors(weight)
    later = start(alignment={"at": "training"}).factors(weight)
    assert torch.equal(later[0], plain[0])


def test_singular_is_stored_on_disk(weight: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memo.forget()
    first = singular(weight, RANK, folder=tmp_path)
    memo.forget()
    monkeypatch.setattr(torch.linalg, "svd", None)
    assert torch.equal(singular(weight, RANK, folder=tmp_path)[0], first[0])
