from __future__ import annotations

import json

import pytest

from advlora.errors import UserError
from advlora_platform.analysis.paired import compare_outcomes
from advlora_platform.measure import compare_records
from tests.platform.measure.made_up import CLEAN, changed, record

pytestmark = pytest.mark.unit

BETTER = changed("model", weights="bb", name="other").model_copy(
    update={
        "examples": record().examples.model_copy(
            update={
                "clean": "11111",
                "robust": {"8_255": "10110"},
                "attacks": {"8_255": {"pgd": "10111", "square": "1-110"}},
            }
        )
    }
)


def test_every_accuracy_of_both_models_is_a_row():
    rows = compare_records(record(), BETTER).rows
    assert [(row.epsilon, row.attack) for row in rows] == [
        ("", "clean"),
        ("8_255", "pgd"),
        ("8_255", "square"),
        ("8_255", "worst case"),
    ]
    assert [(row.first, row.second) for row in rows] == [(0.8, 1.0), (0.6, 0.8), (0.4, 0.6), (0.4, 0.6)]


def test_an_attack_counts_with_those_before_it_because_it_spares_what_they_broke():
    _, pgd, square, worst = (row.found for row in compare_records(record(), BETTER).rows)
    assert (pgd.only_first, pgd.only_second) == (1, 2)  # A withstands 1, 2, 3; B withstands 1, 3, 4, 5
    assert (square.only_first, square.only_second) == (1, 2)  # A: 1, 2; B: 1, 3, 4
    assert worst == square


def test_the_rows_are_what_paired_outcomes_say():
    clean = compare_records(record(), BETTER).rows[0].found
    assert clean == compare_outcomes([digit == "1" for digit in CLEAN], [True] * 5)
    assert clean.difference == pytest.approx(-0.2)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (changed("data", hash="d2"), "data hash (d1 and d2)"),
        (changed("data", split="val"), "split (test and val)"),
        (changed("data", samples=6), "number of examples (5 and 6)"),
        (record(protocol_hash="p2"), "protocol hash (p1 and p2)"),
        (changed("data", examples="e2"), "labels or captions of the examples"),
    ],
)
def test_what_is_not_the_same_measurement_is_refused_by_name(other, said):
    with pytest.raises(UserError) as caught:
        compare_records(record(), other)
    assert caught.value.problems == [f"the records cannot be compared, for they differ in {said}"]


def test_all_that_differs_is_named_at_once():
    other = changed("data", hash="d2", split="val", examples="e2").model_copy(update={"protocol_hash": "p2"})
    with pytest.raises(UserError, match=r"data hash .*, split .*, protocol hash \(p1 and p2\)$"):
        compare_records(record(), other)


def test_retrieval_cannot_be_compared_in_pairs():
    with pytest.raises(UserError, match="records of retrieval hold no outcomes"):
        compare_records(record(), record(examples=None))


def test_a_reader_is_told_what_is_doubtful():
    doubtful = record(unreliable="gradients: zero", provenance={"code_version": "c2"})
    notes = compare_records(record(), doubtful).notes
    assert notes[0] == "B cannot be trusted: gradients: zero"
    assert "different versions" in notes[1]
    assert "same weights" in notes[2]
    assert compare_records(record(), BETTER).notes == ()


def test_it_is_plain_data_for_programs():
    content = json.loads(json.dumps(compare_records(record(), BETTER).to_json()))
    assert content["rows"][0]["attack"] == "clean"
    assert {"difference", "low", "high", "only_first", "only_second", "p_value", "p_mid"} < content["rows"][0][
        "found"
    ].keys()
