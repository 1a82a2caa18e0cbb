from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import KLDivLoss
from torch.nn.functional import cross_entropy, kl_div, log_softmax, normalize

from advlora.adapters import AdaptedModel
from advlora.config.losses import PmgAftConfig
from advlora.losses import ClassCrossEntropy, Encoder, PretrainedGuided, Trades
from advlora.models import load_model
from tests.advlora.losses.made_up import BATCH, CAPTIONS, COUNT, SCALE, perturb, step, unit
from tests.advlora.short_trials import trial

pytestmark = pytest.mark.unit


def classes(adapted: AdaptedModel, count: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    features = normalize(torch.randn(count, adapted.model.embed_dim, generator=torch.Generator().manual_seed(3)), dim=1)
    return features, torch.tensor([0, 1, 2, 0]), adapted.model.logit_scale


def kl(of: Tensor, other: Tensor) -> Tensor:
    return kl_div(log_softmax(other, 1), of.softmax(1), reduction="none").sum(1)


def test_cross_entropy_is_its_formula(random, features):
    classes, labels = unit(random, 4), torch.randint(4, (COUNT,), generator=random)
    found = ClassCrossEntropy(classes, labels, SCALE)(features, BATCH, BATCH)
    for place, sample in enumerate(BATCH.tolist()):
        scores = [float(SCALE * (features[place] / features[place].norm()) @ text) for text in classes]
        odds = torch.tensor(scores, dtype=torch.float64).exp()
        assert float(found[place]) == pytest.approx(-float((odds[labels[sample]] / odds.sum()).log()), rel=1e-4)


def test_the_built_cross_entropy_compares_with_labels_and_class_texts(bench, set_of, built):
    config, loss = trial(), built({})
    assert torch.equal(loss.labels, set_of(config).labels)
    assert torch.equal(loss.classes, bench.class_features(config.model, config.data))
    assert float(loss.scale) == pytest.approx(float(bench.model(config.model).logit_scale))


def test_trades_is_the_formula(made) -> None:
    adapted, now = made(), step()
    features, labels, scale = classes(adapted)
    loss, encoder = Trades(features, labels, scale, None, beta=3.0), Encoder(adapted, bf16=False)
    attacked = (now.clean + 0.1).clamp(0, 1)

    def logits(images: Tensor) -> Tensor:
        return scale * normalize(adapted.model.encode_images(images), dim=-1) @ features.T

    loss.prepare(encoder, now, update=False)
    assert not loss.clean.requires_grad
    expected = kl(logits(now.clean), logits(attacked))
    torch.testing.assert_close(loss.attacked(encoder, attacked, now), expected, atol=1e-5, rtol=1e-3)
    loss.prepare(encoder, now, update=True)
    expected = cross_entropy(logits(now.clean), labels, reduction="none") + 3 * expected
    objective = loss.objective(encoder, attacked, now)
    torch.testing.assert_close(objective, expected, atol=1e-4, rtol=1e-3)
    objective.sum().backward()
    assert all(parameter.grad is not None for parameter in adapted.parameters())


@pytest.mark.parametrize(
    "values", [{}, {"kind": "dora"}, {"kind": "full"}, {"modules_to_save": ["norms", "patch_embedding"]}], ids=str
)
def test_pretrained_guidance_of_the_paper_uses_the_true_pretrained_model(made, tiny, values: dict) -> None:
    adapted, now = made(**values), step()
    perturb(adapted)
    features, labels, scale = classes(adapted)
    config = PmgAftConfig(
        teacher_weight=2.0, clean_weight=0.5, divergence="reverse", reduction="mean", logit_scale=None
    )
    loss = PretrainedGuided(features, labels, scale, None, config)
    attacked, pretrained = (now.clean + 0.1).clamp(0, 1), load_model(tiny("clip"))

    def logits(model, images: Tensor) -> Tensor:
        return scale * normalize(model.encode_images(images), dim=-1) @ features.T

    ours, clean = logits(adapted.model, attacked), logits(adapted.model, now.clean)
    teacher = logits(pretrained, attacked)
    assert (ours - teacher).abs().max() > 0.01
    expected = cross_entropy(ours, labels, reduction="none") + 2 * kl(ours, teacher) + 0.5 * kl(ours, clean)
    encoder = Encoder(adapted, bf16=False)
    torch.testing.assert_close(loss.objective(encoder, attacked, now), expected, atol=1e-4, rtol=1e-3)
    only = cross_entropy(ours, labels, reduction="none")
    torch.testing.assert_close(loss.attacked(encoder, attacked, now), only, atol=1e-5, rtol=1e-4)


def test_pretrained_guidance_is_that_of_the_authors_code_by_default(made, tiny) -> None:
    """Their lines in `train`: logits of unit features without scale, `KLDivLoss(reduction="sum")`, mean CE."""
    adapted, now = made(), step()
    perturb(adapted)
    features, labels, scale = classes(adapted)
    loss, encoder = PretrainedGuided(features, labels, scale, None, PmgAftConfig()), Encoder(adapted, bf16=False)
    attacked, pretrained = (now.clean + 0.1).clamp(0, 1), load_model(tiny("clip"))

    def logits(model, images: Tensor) -> Tensor:
        embedded = model.encode_images(images)
        return embedded / embedded.norm(dim=-1, keepdim=True) @ features.t()

    def weights() -> list[Tensor]:
        return [parameter.grad.clone() for parameter in adapted.parameters()]

    output, output_clean = logits(adapted.model, attacked), logits(adapted.model, now.clean)
    criterion_kl = KLDivLoss(reduction="sum")
    towards_teacher = criterion_kl(log_softmax(output, 1), logits(pretrained, attacked).softmax(1))
    towards_clean = criterion_kl(log_softmax(output, 1), output_clean.softmax(1))
    expected = cross_entropy(output, labels) + towards_clean + towards_teacher
    expected.backward()
    theirs = weights()
    for parameter in adapted.parameters():
        parameter.grad = None
    found = loss.objective(encoder, attacked, now).mean()
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    found.backward()
    torch.testing.assert_close(weights(), theirs, atol=1e-7, rtol=1e-4)


def test_live_classes_give_the_text_tower_a_gradient_in_the_update_only(made) -> None:
    adapted, now = made(tower="text"), step()
    _, labels, scale = classes(adapted)
    loss = ClassCrossEntropy(
        torch.zeros(3, 24), labels, scale, lambda encoder: normalize(encoder.texts(CAPTIONS[:3]), dim=1)
    )
    encoder = Encoder(adapted, bf16=False)
    loss.embed_texts(encoder, now)
    loss.prepare(encoder, now, update=False)
    assert not loss.classes.requires_grad
    loss.prepare(encoder, now, update=True)
    loss.objective(encoder, now.clean, now).sum().backward()
    assert all(parameter.grad is not None for parameter in adapted.parameters())
