from __future__ import annotations

import errno

import pytest
import torch

from advlora.errors import DataError, Diverged, NotFinite
from advlora_platform.study.failures import CLASSES, ERROR, Failure, class_of, classify, overdue

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (Diverged("loss nan"), "diverged", "loss nan"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried\nto allocate"),
            "out_of_memory",
            "CUDA out of memory. Tried",
        ),
        (MemoryError(), "out_of_memory", "out of memory"),
        (NotFinite("logits are not finite"), "not_finite", "logits are not finite"),
        (DataError(["shard a", "shard b"]), "user_error", "shard a; shard b"),
        (OSError(errno.ENOSPC, "No space left", "state.pt"), "no_space", "[Errno 28] No space left: 'state.pt'"),
        (OSError(errno.EIO, "Input/output error"), "error", "OSError: [Errno 5] Input/output error"),
        (ZeroDivisionError("by zero"), "error", "ZeroDivisionError: by zero"),
    ],
)
def test_every_exception_has_a_class_and_a_sentence(error, kind, said):
    failure = classify(error)
    assert (failure.kind, failure.message) == (kind, said)


def test_a_failure_tells_where_it_happened():
    try:
        {}["rank"]
    except KeyError as error:
        failure = classify(error)
    assert failure.text.startswith("error: KeyError: 'rank'\n\nTraceback (most recent call last):\n")
    assert '{}["rank"]' in failure.text
    assert Failure("lost_worker", "killed").text == "lost_worker: killed\n"


def test_names_are_unique_and_the_last_class_matches_what_no_other_does():
    names = [each.name for each in CLASSES]
    assert len(set(names)) == len(names)
    assert CLASSES[-1] is ERROR
    assert [each.name for each in CLASSES if each.matches(KeyError("x"))] == ["error"]


@pytest.mark.parametrize("each", CLASSES, ids=lambda each: each.name)
def test_a_failure_knows_its_class(each):
    assert class_of(Failure(each.name, "why")) is each


def test_a_class_that_another_version_wrote_is_an_error_that_is_tried_again():
    assert class_of(Failure("melted", "why")) is ERROR
    assert not ERROR.final


def test_what_every_worker_meets_needs_no_new_workers():
    assert [each.name for each in CLASSES if each.shared] == ["diverged"]


def test_a_trial_may_be_silent_until_the_shortest_limit():
    limits = {"slow": 60.0, "slower": 120.0}
    assert overdue(60.0, limits) is None
    assert overdue(500.0, {}) is None
    assert overdue(500.0, limits) == Failure("slow", "no report for 500 s (more than 60 s)")


def test_a_model_that_cannot_be_measured_would_not_be_the_next_time():
    assert class_of(Failure("not_finite", "why")).final
