from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest

from advlora_platform.search.ablation import PlanSearcher
from advlora_platform.study.failures import Failure
from advlora_platform.study.ledger import reopened
from advlora_platform.study.messages import Reported
from advlora_platform.study.trials import TrialFactory
from tests import builders
from tests.platform.search.searcher_contract import SearcherContract
from tests.platform.search.small_searches import ROBUST, ablation, record

pytestmark = pytest.mark.unit
RESULT = Reported(1, {ROBUST: 0.5}, final=True).to_tune()


class TestContract(SearcherContract):
    searcher = PlanSearcher

    def build(self, factory, records):
        return PlanSearcher(ablation(), factory, records)


def drain(searcher, factory):
    """Runs every suggestion, one at a time, and returns the trials in order."""
    trials = []
    while (suggested := searcher.suggest(str(len(trials)))) != searcher.FINISHED:
        trials.append(factory.from_tune(suggested))
        searcher.on_trial_complete(str(len(trials) - 1), RESULT)
    return trials


def test_it_counts_the_tuning_of_every_arm_that_is_trained(factory):
    assert PlanSearcher(ablation(), factory, []).total == 3 * 3 + 4 * 2


def test_it_continues_where_the_ledger_ends(factory):
    whole = drain(PlanSearcher(ablation(), factory, []), factory)
    rest = PlanSearcher(ablation(), factory, [record(trial) for trial in whole[:7]])
    assert (rest.total, rest.remaining) == (17, 10)
    assert drain(rest, factory) == whole[7:]


def test_it_waits_while_everything_that_is_decided_runs(factory):
    searcher = PlanSearcher(ablation(arms={}, factors=ablation().factors, seeds=[0]), factory, [])
    first, second = searcher.suggest("1"), searcher.suggest("2")
    assert {first["arm"], second["arm"]} == {"all off", "all on"}
    assert searcher.suggest("3") is None
    searcher.on_trial_complete("1", RESULT)
    assert searcher.suggest("3")["arm"] == first["arm"]


def test_a_trial_that_was_lost_in_an_earlier_launch_is_tried_again(factory):
    trial = drain(PlanSearcher(ablation(tuning=None), factory, []), factory)[0]
    lost = record(trial, status="failed", score=None, failure=Failure("lost_worker", "killed"))
    again = PlanSearcher(ablation(tuning=None), factory, reopened([lost]))
    assert again.remaining == again.total
    assert PlanSearcher(ablation(tuning=None), factory, [lost]).remaining == again.total - 1  # within its launch


@dataclass(frozen=True)
class Counting(TrialFactory):
    """Counts how often a trial is resolved and hashed, which is what planning costs."""

    made: Counter[str] = field(default_factory=Counter)

    def trial(self, arm, seed, values, phase):
        made = super().trial(arm, seed, values, phase)
        self.made[made.id] += 1
        return made


def test_a_result_brings_its_own_arm_forward_and_plans_no_trial_twice():
    made = builders.factory()
    counting = Counting(made.base, made.protocol, made.data_hash)
    searcher = PlanSearcher(ablation(), counting, [])
    for number in range(searcher.total):
        assert searcher.suggest(str(number)) not in (None, searcher.FINISHED)
        searcher.on_trial_complete(str(number), RESULT)
        assert searcher.remaining == searcher.total - number - 1
    assert searcher.suggest("end") == searcher.FINISHED
    assert set(counting.made.values()) == {1}
    assert counting.made.total() == searcher.total


def test_arms_that_share_a_trial_run_it_once(factory):
    study = ablation(arms={"a": {}, "b": {}}, factors={}, tuning=None)
    searcher = PlanSearcher(study, factory, [])
    assert (searcher.total, searcher.remaining) == (4, 4)
    assert len(drain(searcher, factory)) == 2
    assert searcher.remaining == 0
