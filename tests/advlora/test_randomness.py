from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context

import pytest
import torch

from advlora import randomness
from advlora.randomness import Streams, generator, seed_of

pytestmark = pytest.mark.unit


def draw(*key):
    return torch.rand(3, generator=generator(*key)).tolist()


def test_a_name_draws_the_same_numbers_whatever_happened_before():
    torch.manual_seed(1)
    first, before = draw(0, "attack", 2, 5), torch.get_rng_state()
    torch.rand(4)
    assert draw(0, "attack", 2, 5) == first
    torch.set_rng_state(before)
    draw("other")
    assert torch.equal(torch.get_rng_state(), before)


def test_generators_of_one_name_do_not_share_a_state():
    first, second = generator("a"), generator("a")
    torch.rand(5, generator=first)
    assert torch.rand(3, generator=second).tolist() == draw("a")


def test_names_that_differ_anywhere_draw_other_numbers():
    names = [(1, 2), (2, 1), (12,), ("1", "2"), (1, "2"), (1, 2, 0), ("1, 2",), ()]
    names += [(seed, kind, epoch, 0) for seed, kind, epoch in product(range(4), ("attack", "order"), range(4))]
    assert len({seed_of(*name) for name in names}) == len(names)


def test_seeds_are_the_same_on_every_machine_and_fit_torch():
    assert seed_of(0, "attack", 1, 2) == 3544874401580460717
    assert all(0 <= seed_of(number) < 2**63 for number in range(200))
    assert max(seed_of(number) for number in range(200)) > 2**62


COUNT, EACH = 64, 4096


def streams(*name, count=COUNT, first=0):
    return Streams.of(*(name or (0, "attack", 0)), samples=first + torch.arange(count))


def test_a_stream_is_splitmix64():
    """The first outputs for the seed 1234567 that Rosetta Code lists for implementations in many languages."""
    published = (6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431)
    halves = (Streams(torch.tensor([1234567])).uniform(8)[0].double() * 2**24 - 2**23).long() % 2**24
    expected = [half >> 8 for output in published for half in (output % 2**32, output >> 32)]
    assert halves.tolist() == expected


def test_a_draw_spans_its_bounds_in_steps_of_24_bits():
    drawn = streams().uniform(EACH)
    assert torch.equal(drawn * 2**24, (drawn * 2**24).round())
    assert 0 <= drawn.min() < 1e-4
    assert 1 - 1e-4 < drawn.max() < 1
    stretched = streams().uniform(EACH, low=-3.0, high=1.0)
    assert torch.equal(stretched, (drawn - 0.5) * 4 - 1)


@pytest.mark.parametrize("lines", ["within a stream", "across streams", "across seeds", "across branches"])
def test_uniform_numbers_fill_their_range_evenly(lines):
    drawn = {
        "within a stream": lambda: streams(count=1).uniform(COUNT * EACH),
        "across streams": lambda: streams(count=COUNT * EACH).uniform(1),
        "across seeds": lambda: torch.cat([streams(seed, "attack", 0).uniform(EACH // COUNT) for seed in range(COUNT)]),
        "across branches": lambda: torch.cat([streams().branch(each).uniform(EACH // COUNT) for each in range(COUNT)]),
    }[lines]()
    for scale in (256, 2**16):  # the high bits, and those below
        counts = (drawn.flatten() * scale).long().remainder(256).bincount(minlength=256)
        expected = drawn.numel() / 256
        squares = ((counts - expected) ** 2 / expected).sum()
        assert 170 < squares < 352  # chi-square of 255 degrees of freedom, all but 1e-4 of it


def correlation(first, second):
    """In units of its standard deviation among independent numbers."""
    first, second = ((each.flatten().double() - 0.5) * 12**0.5 for each in (first, second))
    return abs(float((first * second).mean())) * first.numel() ** 0.5


def test_neighbours_are_not_correlated():
    drawn = streams().uniform(EACH)
    pairs = {
        "numbers": (drawn[:, 1:], drawn[:, :-1]),
        "halves of a word": (drawn[:, ::2], drawn[:, 1::2]),
        "samples": (drawn[1:], drawn[:-1]),
        "shifted samples": (drawn[1:, 2:], drawn[:-1, :-2]),
        "seeds": (drawn, streams(1, "attack", 0).uniform(EACH)),
        "purposes": (drawn, streams(0, "view", 0).uniform(EACH)),
        "epochs": (drawn, streams(0, "attack", 1).uniform(EACH)),
        "a stream and its branch": (drawn, streams().branch(0).uniform(EACH)),
        "branches": (streams().branch(0).uniform(EACH), streams().branch(1).uniform(EACH)),
    }
    assert {name: value for name, pair in pairs.items() if (value := correlation(*pair)) > 4} == {}


def test_no_number_of_a_stream_is_the_key_of_its_branch():
    parent = Streams(torch.tensor([5]))
    bits = parent.uniform(400).mul(2**24).long()
    keys = torch.stack([parent.branch(number).keys for number in range(200)])
    own = (keys.view(torch.int32) >> 8).flatten() + 2**23
    assert (bits[0] != own).all()


def test_names_that_differ_anywhere_give_other_keys():
    names = [("attack",), (0, "attack"), (1, "attack"), (0, "view"), (0, "attack", 1), (0, "attack", "1")]
    keys = [streams(*name).branch(number).keys for name in names for number in range(50)]
    assert torch.cat(keys).unique().numel() == len(names) * 50 * COUNT


def test_normal_numbers_have_the_moments_and_the_shares_of_the_distribution():
    drawn = streams().normal(EACH).flatten().double()
    moments = [float((drawn**power).mean()) for power in (1, 2, 3, 4)]
    assert moments == pytest.approx([0, 1, 0, 3], abs=0.05)
    bounds = torch.linspace(-2.5, 2.5, 21).double()
    expected = torch.special.ndtr(bounds)
    for part in (drawn[::2], drawn[1::2]):  # of the low halves of words, of the high ones
        shares = (part[:, None] < bounds).double().mean(0)
        deviation = (expected * (1 - expected) / len(part)).sqrt()
        assert ((shares - expected).abs() < 4 * deviation).all()
    assert correlation(*(torch.special.ndtr(part) for part in (drawn[::2], drawn[1::2]))) < 4
    assert drawn.isfinite().all()


@pytest.mark.parametrize("kind", ["uniform", "normal"])
def test_numbers_depend_neither_on_the_batch_nor_on_its_order_nor_on_how_many_are_drawn(kind):
    def draw(own, *shape):
        return getattr(own, kind)(*shape)

    whole = draw(streams(), 3, 5, 7)
    assert whole.shape == (COUNT, 3, 5, 7)
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(0))
    assert torch.equal(draw(streams()[order], 3, 5, 7), whole[order])
    assert torch.equal(draw(Streams.of(0, "attack", 0, samples=order), 3, 5, 7), whole[order])
    parts = [draw(streams(count=8, first=first), 3, 5, 7) for first in range(0, COUNT, 8)]
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(draw(streams(), 11), whole.flatten(1)[:, :11])
    assert draw(streams(count=0), 3, 5, 7).shape == (0, 3, 5, 7)


@pytest.mark.parametrize("cached", [1, 7, 64, 2**20])
def test_numbers_do_not_depend_on_the_size_of_the_blocks(monkeypatch, cached):
    before = streams(count=5).uniform(3, 5, 7), streams(count=5).normal(3, 5, 7)
    monkeypatch.setattr(randomness, "CACHED", cached)
    after = streams(count=5).uniform(3, 5, 7), streams(count=5).normal(3, 5, 7)
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))


def test_other_processes_draw_the_same_numbers():
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        parts = list(pool.map(drawn_from, (0, 32)))
    assert parts == [drawn_from(0), drawn_from(32)]
    assert parts[0] + parts[1] == streams().uniform(50).tolist()


def drawn_from(first):
    return streams(count=32, first=first).uniform(50).tolist()


def test_a_stream_leaves_torchs_own_numbers_and_its_keys_alone():
    state, own = torch.get_rng_state(), streams()
    keys = own.keys.clone()
    assert torch.equal(own.uniform(9), own.uniform(9))
    own.normal(9), own.branch(3)
    assert torch.equal(own.keys, keys)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_gpu_draws_the_same_numbers():
    there = Streams.of(0, "attack", 0, samples=torch.arange(COUNT, device="cuda"))
    assert torch.equal(there.uniform(EACH, low=-0.3, high=0.3).cpu(), streams().uniform(EACH, low=-0.3, high=0.3))
    ours, theirs = streams().normal(EACH), there.normal(EACH).cpu()
    torch.testing.assert_close(theirs, ours, rtol=2e-7, atol=0)
    assert (ours != theirs).double().mean() < 1e-4
