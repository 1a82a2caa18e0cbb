from __future__ import annotations

from dataclasses import replace

import pytest
from rich.text import Text

from advlora_platform.export import Circumstances, reproduction
from advlora_platform.report.reproductions import reproductions_text
from advlora_platform.study.failures import Failure
from tests.builders import TEST_ROBUST, record, trial
from tests.platform.stories import accuracies

pytestmark = pytest.mark.unit
THEN = Circumstances("c0de", {"device": "Abacus", "torch": "2.9.0"})
HERE = Circumstances("c0de", {"device": "H200", "torch": "2.9.0"})
TOLERANCE = 0.01


def again(metrics, before=THEN, here=HERE, **changes):
    now = None if metrics is None else replace(record(trial(), metrics), **changes)
    return reproduction(record(trial(), accuracies(0.5)), now, TOLERANCE, before, here)


def test_the_same_accuracies_and_sizes_are_equal_however_long_they_took():
    found = again({**accuracies(0.5), "cost/seconds": 1.0})
    assert (found.verdict, found.differences, found.reasons) == ("equal", {}, ())


def test_a_difference_up_to_the_tolerance_is_within_it_and_says_what_is_different():
    found = again(accuracies(0.51))
    assert (found.verdict, found.reasons) == ("within tolerance", ("device Abacus -> H200",))
    assert found.differences[TEST_ROBUST] == (0.5, 0.51)
    assert found.largest == pytest.approx(0.01)


@pytest.mark.parametrize(
    "metrics", [accuracies(0.48), accuracies(0.5, trainable=999.0), {"test/clean_r1": 0.8}, {}, None]
)
def test_anything_else_is_not_reproduced(metrics):
    assert again(metrics).verdict == "not reproduced"


def test_code_and_versions_are_named_as_reasons():
    here = Circumstances("f00d", {"device": "Abacus", "torch": "2.10.0"})
    assert again(accuracies(0.4), here=here).reasons == ("code c0de -> f00d", "torch 2.9.0 -> 2.10.0")


def test_a_number_that_comes_out_nowhere_has_no_excuse():
    (reason,) = again(accuracies(0.4), here=THEN).reasons
    assert "the recorded number is not what they give" in reason


def test_the_failure_of_a_trial_is_why_it_did_not_come_out():
    found = again({}, status="failed", failure=Failure("diverged", "loss is nan"))
    assert found.reasons == ("diverged: loss is nan", "device Abacus -> H200")


def test_the_table_fits_a_narrow_terminal_and_says_a_shared_reason_once():
    found = [again(accuracies(0.505)), again(accuracies(0.4)), again(accuracies(0.5))]
    text = Text.from_markup(reproductions_text(found, 9, 80)).plain
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("device Abacus -> H200") == 1
    total = "Of 9 finished trials, 3 were run again: 1 equal, 1 within tolerance, 1 not reproduced."
    assert total in " ".join(text.split())
    assert "-10.0" in text
