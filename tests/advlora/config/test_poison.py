from __future__ import annotations

from typing import Any

import pytest

from advlora.config import DataConfig, PoisonConfig, parse
from advlora.errors import ConfigError

pytestmark = pytest.mark.unit


def poison(values: Any) -> PoisonConfig:
    return parse(DataConfig, {"poison": values}).poison


def test_no_poison_holds_nothing() -> None:
    assert poison({}) == poison("none") == DataConfig().poison
    assert poison("none").model_dump() == {"kind": "none"}


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("none", "rate"),
        ("none", "target"),
        ("badnets", "opacity"),
        ("label_consistent", "opacity"),
        ("blended", "size"),
        ("stripe", "size"),
        ("triangle", "size"),
    ],
)
def test_a_key_without_effect_is_refused(kind: str, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"^poison\.{key}: has no effect with poison\.kind '{kind}'"):
        poison({"kind": kind, key: 0.2} | ({} if kind == "none" else {"target": "bag"}))


def test_a_backdoor_needs_a_target() -> None:
    with pytest.raises(ConfigError, match=r"key 'poison\.target' is required"):
        poison({"kind": "badnets"})
    assert poison({"kind": "badnets", "target": "bag", "rate": 0, "seed": 0}).size == 0.15


def test_an_unknown_trigger_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"'stripes' is not allowed.*did you mean 'stripe'"):
        poison({"kind": "stripes", "target": "bag"})
