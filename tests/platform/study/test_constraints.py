from __future__ import annotations

import pytest

from advlora.errors import ConfigError
from advlora_platform.kinds import Ablation, Sweep
from advlora_platform.study.constraints import parse_constraint
from tests.builders import VAL_CLEAN, VAL_ROBUST, ablation, sweep

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("params/trainable_fraction <= 0.1", "params/trainable_fraction <= 0.1"),
        ("clean>=80%", f"{VAL_CLEAN} >= 0.8"),
        ("robust >= 4.5e-1", f"{VAL_ROBUST} >= 0.45"),
    ],
)
def test_a_constraint_is_read(text, written):
    (limit,) = ablation(constraints=[text]).limits()
    assert str(limit) == written


@pytest.mark.parametrize("text", ["clean", "clean = 1", "clean > 0.8", "clean >= high", "<= 3", "clean >= 1-2"])
def test_anything_else_is_refused_with_an_example(text):
    with pytest.raises(ConfigError, match="is not a constraint, such as"):
        ablation(constraints=[text])


def test_bounds_are_inclusive_and_what_is_not_measured_keeps_none():
    most = parse_constraint("params/trainable <= 100", {})
    assert [most.met({"params/trainable": value}) for value in (99.0, 100.0, 101.0)] == [True, True, False]
    assert not most.met({})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("test/clean_r1 >= 0.8", "is on test, which selects nothing; use val/clean_r1"),
        ("params/trainable_frction <= 1", "did you mean 'params/trainable_fraction'"),
    ],
)
def test_a_metric_that_does_not_select_is_refused(text, said):
    for kind in (Ablation(ablation(constraints=[text])), Sweep(sweep(constraints=[text]))):
        assert any(said in problem for problem in kind.problems())
