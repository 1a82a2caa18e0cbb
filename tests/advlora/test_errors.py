from __future__ import annotations

import pickle

import pytest

from advlora.errors import ConfigError, DataError, Diverged, ModelError, UserError, did_you_mean

pytestmark = pytest.mark.unit


def test_one_problem_or_many_are_kept_as_sentences():
    assert UserError("no such key").problems == ["no such key"]
    many = UserError(sentence for sentence in ("first", "second"))
    assert many.problems == ["first", "second"]
    assert str(many) == "first\nsecond"


@pytest.mark.parametrize("kind", [ConfigError, DataError, ModelError])
def test_an_error_crosses_processes_with_its_class_and_all_its_problems(kind):
    back = pickle.loads(pickle.dumps(kind(["first", "second"])))
    assert type(back) is kind
    assert isinstance(back, UserError)
    assert back.problems == ["first", "second"]
    assert str(back) == "first\nsecond"


def test_a_divergence_is_no_mistake_of_the_user():
    assert not issubclass(Diverged, UserError)


def test_the_nearest_known_name_is_suggested_and_none_where_nothing_is_near():
    known = ("learning_rate", "batch_size", "epochs")
    assert did_you_mean("learning_rte", known) == "; did you mean 'learning_rate'?"
    assert did_you_mean("batchsize", iter(known)) == "; did you mean 'batch_size'?"
    assert did_you_mean("zzz", known) == ""
    assert did_you_mean("anything", ()) == ""
