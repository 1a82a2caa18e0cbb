"""A model that answers all queries alike, or no better than that, is flagged; a weak one is not."""

from __future__ import annotations

import pytest
import torch

import tests.advlora.evaluation.guards.masked as masked
from advlora.config import DataConfig, ModelConfig
from advlora.data import ImageTextSet
from advlora.evaluation.classification import Classification
from advlora.evaluation.evaluator import Evaluator
from advlora.evaluation.guards import run_guards, unreliable
from advlora.evaluation.guards.answers import Answers
from advlora.evaluation.zero_shot import ZeroShotClassifier
from advlora.models import Preprocessing
from tests.advlora.short_trials import evaluation

pytestmark = pytest.mark.unit

TOLERANCE = 0.05


def answers(others: int, right: int, constant: float, count: int = 100) -> Answers:
    given = torch.zeros(count, dtype=torch.int64)
    given[:others] = 1
    return Answers("class", given, torch.arange(count) < right, constant)


@pytest.mark.parametrize(
    ("others", "constant", "count", "varied"),
    [
        (0, 0.371, 100, False),
        (3, 0.371, 100, False),
        (6, 0.371, 100, True),  # a class that is preferred is no fault of the numbers
        (0, 1.0, 100, True),  # the examples are all of one class
        (1, 0.98, 100, True),
        (0, 0.5, 4, True),  # too few to tell
        (0, 0.1, 24, False),
    ],
)
def test_one_answer_is_a_finding_where_others_must_have_been_right(others, constant, count, varied):
    assert answers(others, 0, constant, count).varied(TOLERANCE) == varied


@pytest.mark.parametrize(
    ("right", "constant", "count", "above"),
    [
        (37, 0.371, 100, False),
        (38, 0.371, 100, True),
        (10, 0.14, 100, False),
        (4, 0.17, 24, True),  # a model that is better by ten points has such bad luck in one case of four
        (0, 0.0417, 24, False),
        (95, 0.95, 100, True),
    ],
)
def test_no_better_than_a_constant_is_a_finding_where_better_would_have_shown(right, constant, count, above):
    assert answers(50, right, constant, count).above_constant() == above


def test_a_weak_model_is_hardly_ever_condemned():
    """Of 300 samples of a model that is right for 25 % where the largest class has 12 %, next to none is flagged."""
    source = torch.Generator().manual_seed(0)
    for count in (8, 24, 100):
        drawn = (torch.rand(300, count, generator=source) < 0.25).sum(1)
        condemned = sum(not answers(count // 2, int(right), 0.12, count).above_constant() for right in drawn)
        assert condemned <= 6, count


def flagged(findings):
    return {finding.name for finding in findings if not finding.ok}


def test_a_constant_classifier_with_its_share_of_the_examples_is_not_reliable(bench, plain):
    """What a sweep once chose: clean = robust = the share of the largest class."""
    whole = bench.split(DataConfig(), "test", Preprocessing(28), 400)
    classes = bench.class_features(ModelConfig(), DataConfig())
    largest = (whole.labels == 0).nonzero()[:20, 0]
    some = torch.cat([largest, (whole.labels != 0).nonzero()[:34, 0]])
    data = ImageTextSet(whole.images[some], whole.labels[some], tuple(whole.captions[place] for place in some))
    protocol = evaluation(attacks=[{"steps": 2}], guards={"samples": 54, "queries": 2, "steps": 2})
    classifier = ZeroShotClassifier(masked.ConstantAnswer(plain, classes[0]), classes)
    known = Classification(classifier, protocol).outcomes(data, (protocol.epsilon,))
    assert known.clean.double().mean() == known.robust[protocol.epsilon].double().mean() == 20 / 54
    findings = run_guards(classifier, data, protocol, known)
    assert "varied_answers" in flagged(findings)
    assert "the most frequent class is the answer to 100.0% of the queries, and right for at most 37.0%" in str(
        unreliable(findings)
    )


def test_images_that_all_find_the_same_caption_are_not_reliable(bench, plain):
    texts = plain.encode_texts(["an emoji"])[0]
    model = masked.ConstantAnswer(plain, texts)
    model.encode_texts = plain.encode_texts
    protocol = evaluation(
        attacks=[{"steps": 1}], samples={"val": 24, "test": 24}, guards={"samples": 24, "queries": 2, "steps": 1}
    )
    evaluator = Evaluator(model, DataConfig(name="emoji"), protocol, bench)
    assert "varied_answers" in flagged(evaluator.guards("test"))
