from __future__ import annotations

import pytest
from ray.tune.utils import flatten_dict

from advlora_platform.study.failures import Failure
from advlora_platform.study.messages import EPOCH, Failed, Reported, Started, from_tune, tune_name

pytestmark = pytest.mark.unit
MESSAGES = [
    Started(),
    Reported(1, {"train/loss": 2.0}),
    Reported(3, {"val/robust_r1:8_255": 0.5, "cost/seconds": 1.5}, final=True, unreliable="monotone: no"),
    Failed(Failure("diverged", "loss nan", "Traceback ...")),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_comes_out_of_tune_as_it_went_in(message):
    carried = {**message.to_tune(), "training_iteration": 7, "config": {"arm": "a"}, "trial_id": "t"}
    assert from_tune(carried) == message
    assert from_tune(flatten_dict(carried)) == message  # what searchers and schedulers see


def test_tune_hears_of_the_end_and_finds_epoch_and_metrics():
    assert [message.to_tune().get("done", False) for message in MESSAGES] == [False, False, True, True]
    carried = MESSAGES[2].to_tune()
    assert (carried[EPOCH], carried[tune_name("val/robust_r1:8_255")]) == (3, 0.5)


@pytest.mark.parametrize("result", [None, {}, {"training_iteration": 1, "done": True}])
def test_a_result_of_tune_alone_is_no_message(result):
    assert from_tune(result) is None
