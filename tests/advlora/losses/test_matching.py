from __future__ import annotations

import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from torch.utils._python_dispatch import TorchDispatchMode

from advlora.distributed import Group
from advlora.losses import Encoder, Matching
from advlora.losses.matching import hardest, sampled
from tests.advlora.losses.made_up import CAPTIONS, contrastive_of, step, table

pytestmark = pytest.mark.unit

ENC = 15
"""`[ENC]` of the tiny model: the last of its vocabulary."""


def matching(adapted, captions=CAPTIONS, seed: int = 0, **options) -> Matching:
    known = table(captions, seed)
    return Matching(known, normalize(adapted.model.encode_texts(known.distinct), dim=1), **options)


def prepared(loss: Matching, adapted, now) -> Encoder:
    encoder = Encoder(adapted, bf16=False)
    loss.prepare(encoder, now, update=False)
    return encoder


def chosen(loss: Matching, size: int) -> tuple[list[str], list[int]]:
    """The negative caption of each image, and the negative image of each caption."""
    rows, captions = loss.pairs.rows.tolist(), loss.pairs.captions
    assert rows[: 2 * size] == 2 * list(range(size))
    assert captions[:size] == list(CAPTIONS[:size])
    images = dict(zip(captions[2 * size :], rows[2 * size :], strict=True))
    return captions[size : 2 * size], [images[caption] for caption in CAPTIONS[:size]]


def published(net, tokenizer, pixels: Tensor, negative_texts: list[str], negative_images: list[int]) -> Tensor:
    """The matching loss of `models/blip_retrieval.py`, with given negatives."""

    def mixed(captions, images: Tensor) -> Tensor:
        text = tokenizer(list(captions), padding="max_length", truncation=True, max_length=12, return_tensors="pt")
        text.input_ids[:, 0] = ENC
        found = net.text_encoder(
            text.input_ids,
            attention_mask=text.attention_mask,
            encoder_hidden_states=images,
            encoder_attention_mask=torch.ones(images.shape[:-1], dtype=torch.long),
        )
        return found.last_hidden_state[:, 0, :]

    image_embeds = net.vision_model(pixels).last_hidden_state
    count = len(image_embeds)
    positive = mixed(CAPTIONS, image_embeds)
    negative = mixed((*CAPTIONS, *negative_texts), torch.cat([image_embeds[negative_images], image_embeds]))
    labels = torch.cat([torch.ones(count, dtype=torch.long), torch.zeros(2 * count, dtype=torch.long)])
    return cross_entropy(net.itm_head(torch.cat([positive, negative])), labels)


@pytest.mark.parametrize("negatives", ["sampled", "hardest"])
def test_the_mean_over_a_batch_is_the_published_loss(made, tiny, negatives: str) -> None:
    adapted, now = made("blip"), step()
    loss = matching(adapted, negatives=negatives)
    encoder = prepared(loss, adapted, now)
    folder = tiny("blip").name.removeprefix("local-dir:")
    net = transformers.BlipForImageTextRetrieval.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert net.config.text_config.vocab_size - 1 == ENC
    pixels = (now.clean - adapted.model.mean) / adapted.model.std
    expected = published(net, tokenizer, pixels, *chosen(loss, 4))
    torch.testing.assert_close(loss.objective(encoder, now.clean, now).mean(), expected, atol=1e-5, rtol=1e-4)


def test_hardest_negatives_are_the_most_similar_in_both_directions(made) -> None:
    adapted, now = made("blip"), step()
    loss = matching(adapted, negatives="hardest")
    prepared(loss, adapted, now)
    similarity = normalize(adapted.model.encode_images(now.clean), dim=1) @ loss.texts.T
    similarity.fill_diagonal_(-2)
    texts, images = chosen(loss, 4)
    assert texts == [CAPTIONS[place] for place in similarity.argmax(1).tolist()]
    assert images == similarity.argmax(0).tolist()


def test_sampled_negatives_follow_the_softmax_of_their_scores() -> None:
    scores = torch.tensor([2.0, -torch.inf, 1.0, 0.0]).repeat(20_000, 1)
    noise = torch.empty(scores.shape).exponential_(generator=torch.Generator().manual_seed(0))
    found = sampled(scores, noise).argmax(1).bincount(minlength=4) / len(scores)
    torch.testing.assert_close(found, scores[0].softmax(0), atol=0.01, rtol=0)
    assert torch.equal(hardest(scores, noise), scores)


def test_negatives_belong_to_seed_epoch_and_batch(made) -> None:
    adapted = made("blip")
    now = step(4)

    def drawn(seed: int, epoch: int) -> list[str]:
        loss = matching(adapted, seed=seed)
        loss.start_epoch(epoch)
        prepared(loss, adapted, now)
        return loss.pairs.captions

    assert drawn(0, 0) == drawn(0, 0)
    assert len({tuple(drawn(seed, epoch)) for seed in range(4) for epoch in range(4)}) > 8


@pytest.mark.parametrize("negatives", ["sampled", "hardest"])
def test_a_caption_that_equals_an_own_one_is_no_negative(made, negatives: str) -> None:
    adapted, now = made("blip"), step(3)
    captions = [CAPTIONS[:2], CAPTIONS[1:2], CAPTIONS[2:3]]  # the first image has the caption of the second too
    for seed in range(8):
        loss = matching(adapted, captions, seed, negatives=negatives)
        prepared(loss, adapted, now)
        wrong = [
            (row, caption)
            for row, caption, label in zip(
                loss.pairs.rows.tolist(), loss.pairs.captions, loss.pairs.labels.tolist(), strict=True
            )
            if not label
        ]
        assert len(wrong) == 6
        assert not any(caption in captions[row] for row, caption in wrong)


def test_samples_weigh_alike_whether_they_have_negatives_or_not(made) -> None:
    class Undecided(nn.Module):
        """A matching head that knows nothing: every pair costs log 2."""

        def forward(self, mixed: Tensor) -> Tensor:
            return 0 * mixed[:, :2]

    adapted, now = made("blip"), step(3)
    adapted.model.net.itm_head = Undecided()
    every = [CAPTIONS[:3], CAPTIONS[1:2], CAPTIONS[2:3]]  # the first image has all captions: no negative for it
    loss = matching(adapted, every)
    found = loss.objective(prepared(loss, adapted, now), now.clean, now)
    weights = loss.pairs.weights.tolist()
    assert sum(weights) == pytest.approx(3), "every sample weighs 1 in the loss of the batch"
    assert float(found.sum()) == pytest.approx(3 * torch.tensor(2.0).log().item(), rel=1e-5)
    same = matching(adapted, [CAPTIONS[:1]] * 3)  # no negative at all: what is left counts in full
    found = same.objective(prepared(same, adapted, now), now.clean, now)
    torch.testing.assert_close(found, torch.full((3,), 2.0).log())


def test_shares_of_a_batch_get_the_loss_of_the_whole(made) -> None:
    adapted, now = made("blip"), step()
    whole = matching(adapted)
    expected = whole.objective(prepared(whole, adapted, now), now.clean, now)
    features = normalize(adapted.model.encode_images(now.clean), dim=-1)

    class Other(Group):
        """A process beside others whose features are known."""

        def rows(self, own: Tensor, batch: int) -> Tensor:
            torch.testing.assert_close(own, self.share(features))
            return features

    for rank in range(2):
        group = Other(rank, 2)
        samples = group.share(now.batch)
        share = type(now)(now.clean[samples], samples, now.batch)
        part = matching(adapted, group=group)
        found = part.objective(prepared(part, adapted, share), share.clean, share)
        torch.testing.assert_close(found, expected[samples], atol=1e-5, rtol=1e-4)


class Reads(TorchDispatchMode):
    """Counts how often a number of a tensor is read, which waits for a GPU."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


def test_the_search_for_negatives_reads_as_few_numbers_in_a_large_batch_as_in_a_small_one(made) -> None:
    adapted, found = made("blip"), []
    for size in (4, 32):
        loss = matching(adapted, [(f"a {'dog ' * number}",) for number in range(size)])
        with Reads() as reads:
            prepared(loss, adapted, step(size))
        found.append(reads.count)
    assert found[0] == found[1] <= 2


def test_matching_follows_a_trained_text_tower(made) -> None:
    adapted, now = made("blip", tower="both"), step()
    live, frozen = matching(adapted, negatives="hardest", live=True), matching(adapted, negatives="hardest")
    live.texts = torch.zeros(0)  # unused
    prepared(live, adapted, now)
    prepared(frozen, adapted, now)
    assert live.pairs.captions == frozen.pairs.captions


def test_matching_beside_contrastive_adds_up(made) -> None:
    adapted, now = made("blip", tower="both"), step()
    texts = normalize(adapted.model.encode_texts(CAPTIONS), dim=1)
    contrastive = contrastive_of(texts, adapted, live=True)
    alone, encoder = matching(adapted), Encoder(adapted, bf16=False)
    both = Matching(table(), texts, contrastive, weight=2.0)
    for loss in (alone, both):
        loss.embed_texts(encoder, now)
        loss.prepare(encoder, now, update=False)
        loss.prepare(encoder, now, update=True)
    expected = contrastive.objective(encoder, now.clean, now) + 2 * alone.objective(encoder, now.clean, now)
    torch.testing.assert_close(both.objective(encoder, now.clean, now), expected, atol=1e-4, rtol=1e-4)
