from __future__ import annotations

import pytest
import torch
from open_clip.loss import SigLipLoss
from torch.nn.functional import cross_entropy, normalize

from advlora.errors import ModelError
from advlora.losses import Contrastive, Encoder
from advlora.losses.captions import Sigmoid
from tests.advlora.losses.made_up import BATCH, CAPTION_IDS, CAPTIONS, SCALE, contrastive_of, perturb, step, table
from tests.advlora.short_trials import trial

pytestmark = pytest.mark.unit


def test_contrastive_is_the_supervised_contrastive_loss_with_every_copy_as_a_positive(contrastive, features):
    found = contrastive(features, BATCH, BATCH)
    ids = CAPTION_IDS[BATCH].tolist()
    assert len(set(ids)) < len(ids)
    texts = contrastive.captions[CAPTION_IDS[BATCH]].double()
    for place, own in enumerate(ids):
        odds = (SCALE * texts @ (features[place] / features[place].norm()).double()).exp()
        positives = [other for other, caption in enumerate(ids) if caption == own]
        expected = -sum(float((odds[other] / odds.sum()).log()) for other in positives) / len(positives)
        assert float(found[place]) == pytest.approx(expected, rel=1e-4)


def test_a_part_of_the_batch_gets_the_contrastive_loss_of_the_whole(contrastive, features):
    whole = contrastive(features, BATCH, BATCH)
    torch.testing.assert_close(contrastive(features[1::2], BATCH[1::2], BATCH), whole[1::2])
    assert (contrastive(features[1::2], BATCH[1::2], BATCH[1::2]) < whole[1::2]).all()


def test_the_built_contrastive_loss_embeds_every_distinct_caption_once(bench, set_of, built):
    config, loss = trial(), built({"loss.kind": "contrastive"})
    captions = set_of(config).captions
    assert len(loss.captions) == len(set(captions)) < len(captions)
    expected = normalize(bench.model(config.model).encode_texts(captions), dim=-1)
    torch.testing.assert_close(loss.captions[loss.caption_ids], expected, rtol=0, atol=1e-5)


def test_contrastive_loss_of_two_trained_towers_is_that_of_clip(made) -> None:
    adapted, now = made(tower="both"), step()
    perturb(adapted)
    loss = contrastive_of(torch.zeros(4, 24), adapted, live=True)
    encoder = Encoder(adapted, bf16=False)
    loss.embed_texts(encoder, now)
    loss.prepare(encoder, now, update=True)
    images = normalize(adapted.model.encode_images(now.clean), dim=1)
    texts = normalize(adapted.model.embed_texts(CAPTIONS), dim=1)
    logits, target = adapted.model.logit_scale * images @ texts.T, torch.arange(4)
    expected = (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2
    objective = loss.objective(encoder, now.clean, now)
    torch.testing.assert_close(objective.mean(), expected, atol=1e-5, rtol=1e-4)
    objective.sum().backward()
    assert all(parameter.grad is not None for parameter in adapted.parameters())


def test_frozen_captions_have_one_direction(made) -> None:
    adapted, now = made(), step()
    texts = normalize(adapted.model.encode_texts(CAPTIONS), dim=1)
    loss = contrastive_of(texts, adapted)
    logits = adapted.model.logit_scale * normalize(adapted.model.encode_images(now.clean), dim=1) @ texts.T
    expected = cross_entropy(logits, torch.arange(4), reduction="none")
    torch.testing.assert_close(
        loss(adapted.model.encode_images(now.clean), now.samples, now.batch), expected, atol=1e-5, rtol=1e-4
    )


def test_an_epoch_draws_one_caption_per_sample() -> None:
    many = table([tuple(f"{image} {number}" for number in range(image + 1)) for image in range(50)])
    drawn = []
    for epoch in (0, 1, 0):
        many.start_epoch(epoch)
        drawn.append([many.distinct[number] for number in many.ids.tolist()])
        assert all(caption.startswith(f"{image} ") for image, caption in enumerate(drawn[-1]))
    assert drawn[0] == drawn[2]
    assert drawn[0] != drawn[1]
    assert many.owned(torch.tensor([0, 2]), torch.arange(7)).tolist() == [
        [True] + [False] * 6,
        [False] * 3 + [True] * 3 + [False],
    ]


def test_an_own_caption_that_was_drawn_for_another_sample_is_no_negative(made) -> None:
    adapted, now = made(tower="both"), step(3)
    shared = table([("a dog", "the red boot"), ("the red boot",), ("a cat",)])
    scale = adapted.model.logit_scale
    loss = Contrastive(torch.zeros(3, 24), shared.ids, scale, table=shared, live=True)
    loss.embed_texts(Encoder(adapted, bf16=False), now)
    loss.prepare(Encoder(adapted, bf16=False), now, update=False)
    images = normalize(adapted.model.encode_images(now.clean), dim=1)
    texts = normalize(adapted.model.embed_texts(["a dog", "the red boot", "a cat"]), dim=1)
    logits = scale * images @ texts.T
    logits[0, 1] = -torch.inf  # the first image has this caption too
    expected = (
        cross_entropy(logits, torch.arange(3), reduction="none")
        + cross_entropy(logits.T, torch.arange(3), reduction="none")
    ) / 2
    torch.testing.assert_close(
        loss(adapted.model.encode_images(now.clean), now.samples, now.batch), expected, atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("tower", ["vision", "both"])
def test_the_sigmoid_loss_is_that_of_open_clip_with_the_models_own_scale_and_bias(made, tower: str) -> None:
    adapted, now = made("siglip", tower=tower), step()
    perturb(adapted)
    captions, model = table(), adapted.model
    assert model.logit_bias is not None
    texts = normalize(model.embed_texts(CAPTIONS), dim=1)
    loss = Sigmoid(
        texts.detach(), captions.ids, model.logit_scale, bias=model.logit_bias, table=captions, live=tower == "both"
    )
    encoder = Encoder(adapted, bf16=False)
    loss.embed_texts(encoder, now)
    loss.prepare(encoder, now, update=True)
    images = normalize(model.encode_images(now.clean), dim=1)
    expected = SigLipLoss()(images, texts, model.logit_scale, model.logit_bias)
    objective = loss.objective(encoder, now.clean, now)
    torch.testing.assert_close(objective.mean(), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(objective[1:3], loss(images[1:3], now.samples[1:3], now.batch))
    objective.sum().backward()
    assert all(parameter.grad is not None for parameter in adapted.parameters())


def test_copies_of_a_caption_are_positives_of_the_sigmoid_loss_and_an_undrawn_own_one_is_left_out() -> None:
    shared = table([("a dog", "the red boot"), ("the red boot",), ("a cat",), ("a cat",)])
    texts, bias = normalize(torch.randn(3, 6, generator=torch.Generator().manual_seed(3)), dim=1), torch.tensor(-2.0)
    features, samples = torch.randn(4, 6, generator=torch.Generator().manual_seed(4)), torch.arange(4)
    found = Sigmoid(texts, shared.ids, torch.tensor(7.0), bias=bias, table=shared)(features, samples, samples)
    logits = 7 * normalize(features, dim=1) @ texts.T - 2  # against a dog, the red boot, a cat
    yes, no = logits.sigmoid().log(), (-logits).sigmoid().log()
    expected = [
        yes[0, 0] + 2 * no[0, 2],  # the red boot is its own too
        no[1, 0] + yes[1, 1] + 2 * no[1, 2],
        no[2, 0] + no[2, 1] + 2 * yes[2, 2],
        no[3, 0] + no[3, 1] + 2 * yes[3, 2],
    ]
    torch.testing.assert_close(found, -torch.stack(expected), atol=1e-5, rtol=1e-5)


def test_the_sigmoid_loss_needs_a_bias(built) -> None:
    with pytest.raises(ModelError, match="needs a model with a bias of its logits, such as SigLIP, but 'tiny-clip'"):
        built({"loss.kind": "sigmoid"})
