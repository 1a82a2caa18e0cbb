from __future__ import annotations

from itertools import product

import pytest
import torch

from advlora.randomness import generator, seed_of

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
