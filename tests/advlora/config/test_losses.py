from __future__ import annotations

from typing import Any

import pytest
from pydantic.fields import FieldInfo

from advlora.config import TrialConfig, parse
from advlora.config.losses import LOSSES, BaseLossConfig, no_classes
from advlora.errors import ConfigError

pytestmark = pytest.mark.unit

COSTS: dict[str, tuple[int, int]] = {
    "cross_entropy": (0, 0),
    "contrastive": (0, 0),
    "sigmoid": (0, 0),
    "fare": (0, 1),
    "trades": (1 + 3, 0),
    "pmg_aft": (1 + 3, 0),
    "itm": (1, 0),
    "cleanclip": (3, 0),
    "par": (0, 1),
}
"""Kind -> what a step with an update of 3 F costs in addition, and what precedes the first step, in F."""


def loss(values: Any, **others: Any) -> BaseLossConfig:
    return parse(TrialConfig, {"loss": values, **others}).loss


def own(section: type[BaseLossConfig]) -> dict[str, FieldInfo]:
    return {key: field for key, field in section.model_fields.items() if key != "kind"}


@pytest.mark.parametrize("kind", LOSSES)
def test_every_loss_has_a_title_and_a_cost(kind: str) -> None:
    made = loss(kind)
    assert type(made) is LOSSES[kind]
    assert made.title
    assert (made.extra_forwards(3), made.once_forwards) == COSTS[kind]


def test_without_a_kind_it_is_cross_entropy() -> None:
    assert loss({}) == loss({"kind": "cross_entropy"}) == parse(TrialConfig, {}).loss


@pytest.mark.parametrize("kind", LOSSES)
def test_a_key_without_effect_is_refused_with_one_sentence(kind: str) -> None:
    foreign = {key for section in LOSSES.values() for key in own(section)} - set(own(LOSSES[kind]))
    assert foreign
    for key in foreign:
        with pytest.raises(ConfigError) as refusal:
            loss({"kind": kind, key: 0.5})
        (sentence,) = refusal.value.problems
        assert sentence.startswith(f"loss.{key}: has no effect with loss.kind '{kind}'")


def test_a_matching_head_is_needed_where_pairs_are_matched() -> None:
    found = [loss("itm"), loss({"kind": "contrastive", "itm": 0.1}), loss("contrastive"), loss("trades")]
    assert [each.matches for each in found] == [True, True, False, False]
    assert [each.extra_forwards(2) for each in found] == [1, 1, 0, 3]


@pytest.mark.parametrize("kind", ["fare", "cleanclip", "par"])
def test_a_text_tower_cannot_learn_from_image_embeddings(kind: str) -> None:
    assert loss(kind, adapter={"tower": "vision"}).kind == kind
    for tower in ("text", "both"):
        with pytest.raises(ConfigError, match=f"'{kind}' trains image embeddings only, but adapter.tower is '{tower}'"):
            loss(kind, adapter={"tower": tower})


def test_trades_needs_a_random_start() -> None:
    assert loss("cross_entropy", attack={"random_start": False}).kind == "cross_entropy"
    with pytest.raises(ConfigError, match="TRADES has no gradient at the clean image"):
        loss("trades", attack={"random_start": False})


def test_what_needs_no_classes_is_proposed_where_there_are_none() -> None:
    sentence = no_classes("trades", "flickr30k")
    assert "'trades' needs classes, but data set 'flickr30k' has captions only" in sentence
    assert sentence.endswith("use 'contrastive', 'sigmoid', 'fare', 'itm', 'cleanclip' or 'par'")


def test_negatives_without_matching_are_refused() -> None:
    with pytest.raises(ConfigError, match="negatives belongs to image-text matching, and has no effect with itm: 0"):
        loss({"kind": "contrastive", "negatives": "hardest"})
    assert loss({"kind": "contrastive", "itm": 0.5, "negatives": "hardest"}).negatives == "hardest"


def test_guidance_takes_the_scale_of_the_model_or_a_positive_one() -> None:
    assert loss("pmg_aft").logit_scale == 1.0
    assert loss({"kind": "pmg_aft", "logit_scale": None}).logit_scale is None
    with pytest.raises(ConfigError, match="logit_scale"):
        loss({"kind": "pmg_aft", "logit_scale": 0})
