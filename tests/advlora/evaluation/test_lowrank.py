from __future__ import annotations

import copy
from math import exp, log

import pytest
import torch
from torch import Tensor

from advlora.adapters import adapt
from advlora.adapters.export import merged
from advlora.config import LoraAdapter, ModelConfig
from advlora.evaluation.lowrank import spectra, spectrum, summary, truncated, truncated_model
from advlora.models import load_model

pytestmark = pytest.mark.unit


def matrix(values: list[float], rows: int = 12, columns: int = 8) -> Tensor:
    source = torch.Generator().manual_seed(0)
    left = torch.linalg.qr(torch.randn(rows, rows, generator=source))[0][:, : len(values)]
    right = torch.linalg.qr(torch.randn(columns, columns, generator=source))[0][: len(values)]
    return left @ torch.diag(torch.tensor(values)) @ right


def test_ranks_of_known_singular_values() -> None:
    before = torch.randn(12, 8, generator=torch.Generator().manual_seed(1))
    found = spectrum(before, before + matrix([3.0, 2.0, 1.0]))
    torch.testing.assert_close(found.values[:4], torch.tensor([3.0, 2.0, 1.0, 0.0]), atol=1e-5, rtol=1e-5)
    shares = [9 / 14, 4 / 14, 1 / 14]
    assert found.rank_90 == 2
    assert found.stable_rank == pytest.approx(14 / 9, rel=1e-5)
    assert found.entropy_rank == pytest.approx(exp(-sum(share * log(share) for share in shares)), rel=1e-4)
    assert found.share(1) == pytest.approx(9 / 14, rel=1e-5)
    assert found.norm == pytest.approx(14**0.5 / float(before.norm()), rel=1e-5)


@pytest.mark.parametrize("rank", [1, 4, 8])
def test_equal_singular_values_have_their_number_as_every_rank(rank: int) -> None:
    found = spectrum(torch.zeros(12, 8) + 1, torch.zeros(12, 8) + 1 + matrix([2.0] * rank))
    assert found.rank_90 == -(-9 * rank // 10)
    assert found.stable_rank == pytest.approx(rank, rel=1e-4)
    assert found.entropy_rank == pytest.approx(rank, rel=1e-4)


def test_no_change_has_no_rank() -> None:
    found = spectrum(torch.ones(4, 3), torch.ones(4, 3))
    assert (found.rank_90, found.stable_rank, found.entropy_rank, found.norm, found.share(2)) == (0, 0, 0, 0, 0)


@pytest.mark.parametrize("rank", [0, 1, 2, 3, 8])
def test_truncation_is_the_best_approximation(rank: int) -> None:
    change = matrix([3.0, 2.0, 1.0])
    left = (change - truncated(change, rank)).norm()
    assert float(left) == pytest.approx(sum(value**2 for value in [3, 2, 1][rank:]) ** 0.5, abs=1e-5)
    assert int(torch.linalg.matrix_rank(truncated(change, rank), atol=1e-5)) == min(rank, 3)


@pytest.fixture(scope="module")
def models():
    before = load_model(ModelConfig())
    adapted = adapt(copy.deepcopy(before), LoraAdapter(rank=3, modules_to_save=("norms",)), 0)
    source = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in adapted.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=source)
    return before, merged(adapted)


def test_spectra_of_an_adapter_have_at_most_twice_its_rank(models) -> None:
    before, after = models
    found = spectra(before, after)
    assert len(found) == len(before.tower("vision").layers("all-linear"))
    assert all(0 < each.rank_90 <= 6 and each.share(6) > 0.999 for each in found.values())
    means = summary(found)
    assert means["stable_rank"] <= means["rank_90"] + 1
    assert means["energy_8"] > 0.999
    assert set(spectra(before, after, "mlp")) < set(found)


def test_truncated_models_go_from_the_other_parameters_to_the_trained_model(models) -> None:
    before, after = models
    images = torch.rand(4, 3, after.image_size, after.image_size, generator=torch.Generator().manual_seed(0))
    trained = after.encode_images(images)
    errors = [
        float((truncated_model(before, after, rank).encode_images(images) - trained).norm()) for rank in (0, 3, 6)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-3
    none = truncated_model(before, after, 0)
    name = next(iter(before.tower("vision").layers("mlp")))
    torch.testing.assert_close(none.vision.get_submodule(name).weight, before.vision.get_submodule(name).weight)
    assert not torch.allclose(none.encode_images(images), before.encode_images(images), atol=1e-4)
