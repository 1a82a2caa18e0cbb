from __future__ import annotations

import pytest
import torch
from torch import Tensor

from advlora.adapters.alignment import ClusterTarget, Product, StartTarget, WeightTarget, refit
from advlora.adapters.clustering import kmeans
from advlora.models import Preprocessing
from advlora.training.optimiser import build_optimiser
from advlora.training.trainer import restore
from tests.advlora.short_trials import trial

pytestmark = pytest.mark.unit


@pytest.fixture
def tensors() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(shape, generator=generator) for shape in ((20, 9), (20, 4), (4, 9)))


def test_refit_without_ridge_is_least_squares(tensors: tuple[Tensor, Tensor, Tensor]) -> None:
    weight, _, a = tensors
    expected = torch.linalg.lstsq(a.T.double(), weight.T.double()).solution.T
    torch.testing.assert_close(refit(weight, a, 1e-12).double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("ridge", [1e-3, 0.5])
def test_refit_is_ridge_least_squares(tensors: tuple[Tensor, Tensor, Tensor], ridge: float) -> None:
    weight, _, a = (tensor.double() for tensor in tensors)
    level = (ridge * (a @ a.T).diagonal().mean()).sqrt()
    design = torch.cat([a.T, level * torch.eye(4, dtype=a.dtype)])
    observed = torch.cat([weight.T, torch.zeros(4, 20, dtype=a.dtype)])
    expected = torch.linalg.lstsq(design, observed).solution.T
    torch.testing.assert_close(refit(weight, a, ridge), expected)


def test_refit_does_not_depend_on_the_scale_of_a(tensors: tuple[Tensor, Tensor, Tensor]) -> None:
    weight, _, a = tensors
    torch.testing.assert_close(refit(weight, 10 * a, 0.1) @ (10 * a), refit(weight, a, 0.1) @ a)


def test_refit_to_zero_is_finite() -> None:
    assert not refit(torch.ones(3, 4), torch.zeros(2, 4), 1e-3).any()


@pytest.mark.parametrize("kind", ["start", "weight", "rows", "columns"])
def test_the_distance_is_the_dense_formula(tensors: tuple[Tensor, Tensor, Tensor], kind: str) -> None:
    weight, b, a = (tensor.double() for tensor in tensors)
    b0, a0 = b + 0.3 * torch.randn_like(b), a + 0.3 * torch.randn_like(a)
    target, dense = {"start": (StartTarget(), b0 @ a0), "weight": (WeightTarget(), weight)}.get(kind, (None, None))
    if target is None:
        clusters = kmeans(weight.float(), 5, axis=kind)
        target, dense = ClusterTarget(clusters).double(), clusters.matrix().double()
    leaves = [b.clone().requires_grad_(), a.clone().requires_grad_()]
    value = target.squared_distance(Product(*leaves), Product(b0, a0), weight - b0 @ a0)
    twins = [b.clone().requires_grad_(), a.clone().requires_grad_()]
    expected = (twins[0] @ twins[1] - dense).square().sum()
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(torch.autograd.grad(value, leaves), torch.autograd.grad(expected, twins))


def test_inner_products_are_dense_ones(tensors: tuple[Tensor, Tensor, Tensor]) -> None:
    weight, b, a = (tensor.double() for tensor in tensors)
    b0, a0 = torch.randn_like(b)[:, :3], torch.randn_like(a)[:3]
    torch.testing.assert_close(Product(b, a).inner_weight(weight), ((b @ a) * weight).sum())
    torch.testing.assert_close(Product(b, a).inner(Product(b0, a0)), ((b @ a) * (b0 @ a0)).sum())


def test_a_product_is_at_no_distance_from_itself(tensors: tuple[Tensor, Tensor, Tensor]) -> None:
    weight, b, a = tensors
    assert float(StartTarget().squared_distance(Product(b, a), Product(b, a), weight)) == 0
    clusters = kmeans(weight, 4)
    own = Product(*clusters.factors(4))
    assert float(ClusterTarget(clusters).squared_distance(own, own, weight)) == pytest.approx(0, abs=1e-4)


STARTS = {
    "k-means": {},
    "Gaussian, refitted": {"adapter.init": "gaussian"},
    "Gaussian": {"adapter.init": "gaussian", "adapter.alignment.at": "training"},
    "PiSSA": {"adapter.init": "pissa", "adapter.alpha": 6, "adapter.adaptive.initial": 0.7},
}
PENALTY = {"adapter.target": "all-linear", "adapter.alignment.weight": 1.0}


@pytest.fixture(scope="module")
def accuracy(bench):
    """Clean accuracy of the embedded model, in percent."""
    config = trial()
    data = bench.split(config.data, "val", Preprocessing(28), 400)
    classes = bench.class_features(config.model, config.data)

    @torch.no_grad()
    def accuracy(model) -> float:
        features = torch.nn.functional.normalize(model.encode_images(data.images.float() / 255), dim=-1)
        return 100 * float((features @ classes.T).argmax(1).eq(data.labels).float().mean())

    return accuracy


def minimised(adapted) -> float:
    """Minimises the penalty alone in 100 steps of AdamW and returns what is left of it."""
    optimiser = build_optimiser(adapted.trained_parameters(), trial({"optimiser.learning_rate": 5e-3}).optimiser)
    for _ in range(100):
        optimiser.zero_grad()
        adapted.penalty().backward()
        optimiser.step()
    return float(adapted.penalty().detach())


@pytest.mark.parametrize("rank", [4, 8])
@pytest.mark.parametrize("start", STARTS)
def test_the_penalty_alone_is_minimal_at_the_pretrained_function(bench, accuracy, start: str, rank: int) -> None:
    adapted = restore(trial({**PENALTY, **STARTS[start], "adapter.rank": rank}), bench)
    pretrained = accuracy(bench.model(trial().model))
    assert float(adapted.penalty().detach()) < 1e-12
    minimised(adapted)
    assert accuracy(adapted.model) == pytest.approx(pretrained, abs=0.5)
    generator = torch.Generator().manual_seed(0)
    for parameter in adapted.parameters():  # away from the start, from where it leads back
        size = 0.1 * parameter.detach().abs().mean().clamp_min(0.01)
        parameter.data += size * torch.randn(parameter.shape, generator=generator)
    moved = float(adapted.penalty().detach())
    assert moved > 1e-6
    assert minimised(adapted) < 0.01 * moved
    assert accuracy(adapted.model) == pytest.approx(pretrained, abs=0.5)


@pytest.mark.parametrize("target", ["weight", "clusters"])
def test_other_targets_lead_away_from_the_pretrained_function(bench, accuracy, target: str) -> None:
    adapted = restore(trial({**PENALTY, "adapter.rank": 8, "adapter.alignment.target": target}), bench)
    assert float(adapted.penalty().detach()) > 0.05
    minimised(adapted)
    assert accuracy(adapted.model) < accuracy(bench.model(trial().model)) - 5
