from __future__ import annotations

import pytest

from advlora.attacks import expanded, labels, needs_surrogate, runnable
from advlora.config import EvaluationProtocol, parse
from advlora.errors import ConfigError
from tests.advlora.short_trials import evaluation_attack

pytestmark = pytest.mark.unit


def attacks(*kinds, **values):
    return [evaluation_attack(kind=kind, **values) for kind in kinds]


def test_autoattack_is_its_four_parts_in_their_order_and_norm():
    parts = expanded(attacks("noise", "autoattack", norm="l2"))
    assert [part.kind for part in parts] == ["noise", "apgd-ce", "apgd-t", "fab-t", "square"]
    assert {part.norm for part in parts} == {"l2"}
    assert [part.steps for part in parts[1:]] == [100, 100, 100, 5000]


def test_autoattack_plus_adds_restarts_and_the_untargeted_attacks():
    parts = expanded(attacks("autoattack-plus"))
    assert [(part.kind, part.restarts) for part in parts] == [
        ("apgd-ce", 5),
        ("apgd-dlr", 5),
        ("fab", 5),
        ("square", 1),
        ("apgd-t", 1),
        ("fab-t", 1),
    ]


def test_two_classes_leave_out_what_needs_a_third():
    assert [part.kind for part in runnable(attacks("autoattack"), 2)] == ["apgd-ce", "fab-t", "square"]
    assert len(runnable(attacks("autoattack"), 3)) == 4


def test_a_protocol_of_which_nothing_is_left_is_refused():
    with pytest.raises(ConfigError, match=r"apgd-t, apgd-dlr need 3 classes, but the data set has 2; .* apgd-ce"):
        runnable(attacks("apgd-t", "apgd-dlr"), 2)


def test_classes_refuse_attacks_on_captions():
    with pytest.raises(ConfigError, match="'set-level' aims at captions, but the data set has classes; use 'pgd'"):
        runnable(attacks("pgd", "set-level"), 10)


def test_equal_attacks_get_different_names():
    assert labels(attacks("fgsm", "noise", "fgsm", "fgsm")) == ("fgsm", "noise x10", "fgsm (2)", "fgsm (3)")


def test_only_transfer_attacks_need_a_surrogate():
    assert needs_surrogate(parse(EvaluationProtocol, {"attacks": [{"kind": "pgd"}, {"kind": "di"}]}))
    assert not needs_surrogate(parse(EvaluationProtocol, {"attacks": [{"kind": "autoattack-plus"}]}))
    assert not needs_surrogate(parse(EvaluationProtocol, {"attacks": [{"kind": "mi", "source": "model"}]}))
