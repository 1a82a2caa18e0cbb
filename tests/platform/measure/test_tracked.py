from __future__ import annotations

import pytest

from advlora_platform.measure.tracked import tracked
from tests.platform.measure.made_up import changed, record

pytestmark = pytest.mark.unit


def test_everything_but_single_outcomes_is_tracked():
    found = tracked(changed("model", run="ab12", trial_id="t1"))
    assert found.metrics == {
        "test/clean_r1": 0.8,
        "test/robust_r1:8_255": 0.4,
        "attack/pgd:8_255": 0.6,
        "attack/square:8_255": 0.4,
        "attack/worst case:8_255": 0.4,
        "cost/seconds": 1.5,
    }
    assert found.data == {"name": "set", "hash": "d1", "split": "test", "samples": "5", "examples": "e1"}
    assert (found.model, found.weights, found.run, found.trial_id) == ("best/model", "aa", "ab12", "t1")
    assert (found.protocol, found.protocol_hash, found.protocol_text) == ("strong", "p1", "PGD and Square")


def test_a_doubt_is_tracked():
    assert tracked(record()).unreliable is None
    assert tracked(record(unreliable="monotone: no")).unreliable == "monotone: no"
