from __future__ import annotations

import pytest
import torch

from advlora.evaluation.reranking import TEXTS, candidates, first, matching

pytestmark = pytest.mark.unit


def test_candidates_come_first_in_their_new_order() -> None:
    similarity = torch.tensor([[0.9, 0.8, 0.1], [0.5, 0.6, 0.7]])
    rows = candidates(similarity, 2, 1)
    assert rows.tolist() == [[True, True, False], [False, True, True]]
    assert candidates(similarity, 1, 0).tolist() == [[True, True, False], [False, False, True]]
    ordered = first(similarity, torch.tensor([[-5.0, -4.0, 9.0], [0.0, 3.0, 2.0]]), rows)
    assert ordered.argsort(1, descending=True).tolist() == [[1, 0, 2], [1, 2, 0]]


class Head(torch.nn.Module):
    """Scores an image, whose token is its mean, by the length of a caption."""

    def image_tokens(self, images):
        return images.mean((1, 2, 3)).view(-1, 1, 1)

    def match(self, tokens, captions):
        assert len(tokens) == len(captions) <= TEXTS
        score = tokens[:, 0, 0] * torch.tensor([float(len(caption)) for caption in captions])
        return torch.stack([torch.full_like(score, 9.0), score], 1)  # the first logit does not count


def test_wanted_pairs_of_own_images_are_scored_and_no_others() -> None:
    captions = ["a", "bb", "ccc"] * TEXTS
    wanted = torch.zeros(3, len(captions), dtype=torch.bool)
    wanted[0, 1], wanted[1], wanted[2, 0] = True, True, True
    images = {place: torch.full((3, 2, 2), place + 1.0) for place in (0, 1)}
    scores = matching(Head(), images, captions, wanted)
    assert (scores[0, 1], int(scores[0].count_nonzero())) == (2.0, 1)
    assert scores[1].tolist() == [2.0 * len(caption) for caption in captions]
    assert not scores[2].any(), "this image belongs to another process"
