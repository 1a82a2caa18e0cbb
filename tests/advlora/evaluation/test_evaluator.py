"""One evaluator decides for every caller: the task, the pretrained model, the guards, the backdoor."""

from __future__ import annotations

import copy
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from advlora.config import DataConfig, ModelConfig
from advlora.config.poison import BadNetsConfig
from advlora.config.training_attacks import FgsmRs
from advlora.errors import ModelError
from advlora.evaluation.classification import Classification
from advlora.evaluation.evaluator import Evaluator
from advlora.evaluation.zero_shot import ZeroShotClassifier
from advlora.models import Preprocessing
from advlora.training.workbench import Workbench
from tests.advlora.short_trials import evaluation

pytestmark = pytest.mark.unit

BASE, DATA = ModelConfig(), DataConfig()
GUARDS = {"samples": 6, "queries": 2, "steps": 1}
TRANSFER = [{"kind": "mi", "steps": 1}]
SMALL = {"attacks": [{"steps": 1}], "samples": {"val": 12, "test": 8}, "guards": GUARDS}


class Counting(Workbench):
    """Counts how often a pretrained model is asked for; or has none."""

    def __init__(self, missing: bool = False) -> None:
        super().__init__()
        self.asked, self.missing = 0, missing

    def model(self, config):
        self.asked += 1
        if self.missing:
            raise ModelError("no weights")
        return super().model(config)


@pytest.fixture(scope="module")
def moved(bench):
    """The pretrained model with a vision tower that was moved a little."""
    model, source = bench.model(BASE), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.vision.parameters():
            parameter += 0.01 * torch.randn(parameter.shape, generator=source)
    return model


@pytest.fixture
def evaluator(moved):
    def evaluator(source=None, **values) -> Evaluator:
        fields = {
            name: values.pop(name) for name in ("base", "changed", "own_texts", "frozen", "merges") if name in values
        }
        protocol = evaluation(**SMALL | values)
        return Evaluator(moved, DATA, protocol, source or Counting(), **{"base": BASE, **fields})

    return evaluator


def names(findings):
    return {finding.name for finding in findings}


def test_metrics_are_the_means_of_the_outcomes(evaluator):
    short, full = (evaluator().measure("val", curve=curve) for curve in (False, True))
    means = {"val/clean_mean_per_class", "val/robust_mean_per_class:4_255"}
    assert set(short.metrics) == {"val/clean_r1", "val/robust_r1:4_255", *means}
    assert set(full.metrics) == {*short.metrics, "val/robust_r1:8_255", "val/robust_mean_per_class:8_255"}
    assert len(short.outcomes.clean) == 12
    labels = evaluator().examples("val").labels
    assert short.metrics == short.outcomes.metrics("val") | short.outcomes.mean_per_class("val", labels)
    assert len(evaluator().measure("test", curve=False).outcomes.clean) == 8


def test_class_texts_are_those_of_the_model_or_of_its_base(evaluator, bench, moved):
    own, shared = (evaluator(own_texts=own).measure("val", curve=False) for own in (True, False))
    assert own.outcomes.record() == shared.outcomes.record(), "the text tower did not move"
    blind = copy.deepcopy(moved)
    blind.encode_texts = lambda captions: torch.ones(len(captions), blind.embed_dim)
    live, frozen = (replace(evaluator(own_texts=own), model=blind).measure("val", curve=False) for own in (True, False))
    assert frozen.metrics == shared.metrics
    assert live.metrics["val/clean_r1"] < 0.5 < frozen.metrics["val/clean_r1"], "all classes were embedded alike"


def test_the_pretrained_model_is_loaded_only_where_it_is_needed(evaluator):
    plain, transfer, guarded, unchanged = (Counting() for _ in range(4))
    evaluator(plain).measure("val", curve=True)
    evaluator(transfer, attacks=TRANSFER).measure("val", curve=True)
    evaluator(guarded).guards()
    evaluator(unchanged, changed=False).guards()
    assert [source.asked for source in (plain, transfer, guarded, unchanged)] == [0, 1, 1, 0]


def test_a_transfer_attack_starts_from_the_pretrained_model(evaluator, bench, moved):
    measured = evaluator(attacks=TRANSFER).measure("val", curve=False)
    classes = bench.class_features(BASE, DATA)
    classifier, surrogate = (ZeroShotClassifier(model, classes) for model in (moved, bench.model(BASE)))
    expected = Classification(classifier, evaluation(**SMALL | {"attacks": TRANSFER}), surrogate)
    data = bench.split(DATA, "val", Preprocessing(28), 12)
    assert measured.outcomes.record() == expected.outcomes(data, (4 / 255,)).record()


def test_a_missing_pretrained_model_is_an_error_of_an_attack_but_not_of_the_guards(evaluator):
    missing = Counting(missing=True)
    with pytest.raises(ModelError, match="no weights"):
        evaluator(missing, attacks=TRANSFER).measure("val", curve=False)
    assert "transfer" not in names(evaluator(missing).guards())
    assert "transfer" not in names(evaluator(base=None).guards())
    with pytest.raises(ValueError, match="surrogate"):
        evaluator(base=None, attacks=TRANSFER).measure("val", curve=False)


def test_guards_compare_with_the_base(evaluator):
    assert {"monotone", "transfer"} < names(evaluator().guards())
    assert "transfer" not in names(evaluator(changed=False).guards()), "it would attack itself"
    assert "merged" not in names(evaluator().guards())
    assert evaluator(guards={"enabled": False}).guards() == []


class Other:
    """A model that is another one inside `frozen`, as one would be whose adapter was merged wrongly by `factor`."""

    def __init__(self, model, factor):
        self.weight, self.factor = model.tower("vision").layers("mlp").popitem()[1].weight, factor
        self.inside = self.entered = 0

    @contextmanager
    def __call__(self):
        self.entered, self.inside = self.entered + 1, self.inside + 1
        self.weight.data *= self.factor
        yield
        self.weight.data /= self.factor
        self.inside -= 1


@pytest.mark.parametrize(("factor", "same"), [(1.0, True), (1.5, False)])
def test_guards_compare_what_was_trained_with_the_merged_weights(evaluator, moved, factor, same):
    frozen = Other(moved, factor)
    findings = {finding.name: finding for finding in evaluator(frozen=frozen, merges=True).guards()}
    assert findings["merged"].ok == same
    assert not frozen.inside


@pytest.mark.parametrize("measure", ["measure", "guards", "overfitting"])
def test_everything_is_measured_inside_frozen(evaluator, moved, measure, monkeypatch):
    frozen, passes, embed = Other(moved, 1.0), [], moved.encode_images

    def watched(images):
        passes.append(frozen.inside)
        return embed(images)

    monkeypatch.setattr(moved, "encode_images", watched)
    measured = evaluator(frozen=frozen)
    arguments = {"measure": {"split": "val", "curve": True}, "overfitting": {"attack": FgsmRs()}}
    getattr(measured, measure)(**arguments.get(measure, {}))
    assert passes
    assert all(passes)
    assert frozen.entered == 1, "merged once, not for every batch"


def test_the_pretrained_model_is_guarded_under_a_transfer_protocol_too(evaluator):
    findings = names(evaluator(changed=False, attacks=TRANSFER).guards())
    assert "monotone" in findings
    assert "transfer" not in findings


def test_guards_take_what_is_known_of_their_split(evaluator):
    measured = evaluator().measure("test", curve=False)
    known = replace(measured.outcomes, clean=torch.zeros_like(measured.outcomes.clean))
    findings = {finding.name: finding for finding in evaluator().guards("test", known)}
    assert not findings["clean_at_least_robust"].ok, "robust images that are not classified correctly"
    assert evaluator().guards("test", measured.outcomes) == evaluator().guards("test")


def test_a_backdoor_is_measured_where_the_data_is_poisoned(evaluator):
    poison = BadNetsConfig(target="bag", rate=0.1)
    poisoned = replace(evaluator(), data=DATA.model_copy(update={"poison": poison}))
    metrics = poisoned.measure("val", curve=False).metrics
    assert 0 <= metrics.pop("val/attack_success_rate") <= 1
    assert metrics == evaluator().measure("val", curve=False).metrics
