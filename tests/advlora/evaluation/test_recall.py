from __future__ import annotations

import pytest
import torch

from advlora.evaluation.recall import Ranks, image_ranks, ranks, text_ranks
from advlora.metrics import MEAN_RECALL, recall_names

pytestmark = pytest.mark.unit

RIGHT = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]).bool()
"""Four captions of three images."""


def own(count: int) -> torch.Tensor:
    return torch.eye(count, dtype=torch.bool)


def test_ranks_by_hand() -> None:
    scores = torch.tensor([[0.1, 0.5, 0.9, 0.2], [0.3, 0.3, 0.4, 0.8], [0.0, 0.7, 0.1, 0.6]])
    assert text_ranks(scores, RIGHT).tolist() == [1, 1, 1]
    assert image_ranks(scores, RIGHT).tolist() == [1, 1, 1, 1]
    perfect = RIGHT.float()
    assert set(ranks(perfect, perfect, RIGHT).recalls().values()) == {1.0}


def test_numbers_have_the_names_that_others_expect() -> None:
    found = Ranks(torch.tensor([0, 7]), torch.tensor([0, 3]))
    assert tuple(found.recalls()) == (*recall_names(), MEAN_RECALL)
    assert tuple(found.success_rates(found)) == recall_names()


def test_recalls_count_ranks_below_the_depth() -> None:
    scores = -torch.arange(12.0).repeat(12, 1)
    found = ranks(scores, scores.T, own(12)).recalls()
    assert found["tr_r1"] == pytest.approx(1 / 12)
    assert found["tr_r5"] == pytest.approx(5 / 12)
    assert found["ir_r10"] == pytest.approx(10 / 12)
    assert found["mean_recall"] == pytest.approx((1 + 5 + 10) / 12 / 3)


def test_a_model_that_tells_nothing_apart_finds_nothing() -> None:
    same = torch.zeros(20, 20)
    assert set(ranks(same, same, own(20)).recalls().values()) == {0.0}


def test_a_caption_of_two_images_is_right_for_both_and_they_for_it() -> None:
    right = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]]).bool()  # the first two captions are equal
    scores = torch.tensor([[0.9, 0.9, 0.1], [0.8, 0.8, 0.2], [0.0, 0.0, 0.7]])
    assert set(ranks(scores, scores, right).recalls().values()) == {1.0}
    worse = torch.tensor([[0.1, 0.1, 0.9], [0.8, 0.8, 0.2], [0.3, 0.3, 0.7]])
    assert text_ranks(worse, right).tolist() == [1, 0, 0]
    assert image_ranks(worse, right).tolist() == [0, 0, 1]


def test_success_is_the_share_of_the_right_queries_that_became_wrong() -> None:
    before = Ranks(torch.tensor([0, 0, 3, 7]), torch.tensor([20, 20]))
    after = Ranks(torch.tensor([0, 2, 0, 12]), torch.tensor([0, 20]))
    rates = before.success_rates(after)
    assert (rates["tr_r1"], rates["tr_r5"], rates["tr_r10"]) == (0.5, 0.0, 0.25)
    assert rates["ir_r1"] == 0.0, "nothing was right before"


def test_the_worst_of_two_finds_what_both_find() -> None:
    one = Ranks(torch.tensor([0, 4, 0]), torch.tensor([0, 9]))
    other = Ranks(torch.tensor([3, 0, 0]), torch.tensor([0, 1]))
    worst = one.worst(other)
    assert worst.texts.tolist() == [3, 4, 0]
    assert worst.recalls()["tr_r1"] == pytest.approx(1 / 3)
    assert worst.recalls()["ir_r5"] == 0.5


def test_what_is_not_a_number_is_never_found() -> None:
    nothing = torch.full((3, 4), torch.nan)
    assert set(ranks(nothing, nothing, RIGHT).success_rates(ranks(nothing, nothing, RIGHT)).values()) == {0.0}
    assert text_ranks(nothing, RIGHT).tolist() == [2, 3, 3]
    assert image_ranks(nothing, RIGHT).tolist() == [2, 2, 2, 2]
