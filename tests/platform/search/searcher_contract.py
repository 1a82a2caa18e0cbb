"""What every searcher must pass: the life of a trial as `search.contract` describes it, played without Tune.

A new searcher gets a class below `SearcherContract` in its own test module.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from advlora_platform.search.contract import StudySearcher
from advlora_platform.study.failures import Failure
from advlora_platform.study.folder import StudyFolder
from advlora_platform.study.ledger import Record
from advlora_platform.study.messages import Failed, Reported
from advlora_platform.study.trials import Trial, TrialFactory
from tests.platform.search.small_searches import ROBUST, record

SCORE = 0.5
END: dict[str, Callable[[StudySearcher, str], None]] = {
    "done": lambda searcher, name: searcher.on_trial_complete(name, _report(final=True)),
    "stopped": lambda searcher, name: searcher.on_trial_complete(name, _report(final=False)),
    "failed": lambda searcher, name: searcher.on_trial_complete(
        name, Failed(Failure("diverged", "loss nan")).to_tune()
    ),
    "lost": lambda searcher, name: searcher.on_trial_complete(name, None, error=True),
}
"""How a trial can end, as Tune tells a searcher."""


def _report(final: bool) -> dict[str, Any]:
    return {**Reported(1, {ROBUST: SCORE}, final=final).to_tune(), "training_iteration": 1}


class SearcherContract:
    """The conformance tests; a subclass says how its searcher is built."""

    searcher: ClassVar[type[StudySearcher]]

    @pytest.fixture(autouse=True)
    def _folders(self, tmp_path):
        self.folder, self.launches = tmp_path, 0

    def build(self, factory: TrialFactory, records: Sequence[Record]) -> StudySearcher:
        """Builds a searcher of at least four trials, in a study that early stopping may touch."""
        raise NotImplementedError

    def fresh(self) -> StudyFolder:
        """A study folder that no searcher has used yet."""
        self.launches += 1
        return StudyFolder(self.folder / str(self.launches))

    def drain(self, searcher: StudySearcher, factory: TrialFactory, end: str = "done", first: int = 0) -> list[Trial]:
        """Runs one suggestion after the other to the end, and returns the trials."""
        trials: list[Trial] = []
        while (suggested := searcher.suggest(f"{first + len(trials)}")) != searcher.FINISHED:
            assert suggested is not None, "nothing runs, so there is nothing to wait for"
            trials.append(factory.from_tune(suggested))
            END[end](searcher, f"{first + len(trials) - 1}")
            assert len(trials) < 1000, "no end"
        return trials

    @pytest.fixture
    def whole(self, factory) -> list[Trial]:
        """Every trial, in the order of a launch that nothing interrupts."""
        return self.drain(self.build(factory, []), factory)

    def test_it_is_the_searcher_that_the_suite_is_about(self, factory):
        assert type(self.build(factory, [])) is self.searcher

    def test_it_hands_out_as_many_trials_as_it_says_and_none_twice(self, factory, whole):
        searcher = self.build(factory, [])
        assert searcher.total == searcher.remaining == len(whole) >= 4
        assert len({trial.id for trial in whole}) == len(whole)

    @pytest.mark.parametrize("end", END)
    def test_the_remaining_trials_fall_to_zero_however_trials_end(self, factory, end):
        searcher = self.build(factory, [])
        total, counts = searcher.total, [searcher.remaining]
        while (suggested := searcher.suggest(str(len(counts)))) != searcher.FINISHED:
            assert suggested is not None
            assert searcher.remaining == counts[-1], "a trial that runs is not settled"
            END[end](searcher, str(len(counts)))
            counts.append(searcher.remaining)
        assert counts == list(range(total, -1, -1))
        assert searcher.total == total

    def test_the_end_is_final(self, factory):
        searcher = self.build(factory, [])
        self.drain(searcher, factory)
        assert [searcher.suggest(name) for name in ("late", "later")] == [searcher.FINISHED] * 2

    @pytest.mark.parametrize("end", END)
    def test_no_ending_makes_it_suggest_a_trial_again(self, factory, end):
        trials = self.drain(self.build(factory, []), factory, end)
        assert len({trial.id for trial in trials}) == len(trials)

    def test_it_says_the_end_only_when_nothing_can_follow(self, factory):
        """With everything that it gives out running, it waits or is at its end; the results bring the rest."""
        searcher, running = self.build(factory, []), []
        while (suggested := searcher.suggest(str(len(running)))) not in (None, searcher.FINISHED):
            running.append(factory.from_tune(suggested))
        assert len({trial.id for trial in running}) == len(running)
        for name in range(len(running)):
            END["done"](searcher, str(name))
        rest = self.drain(searcher, factory, first=len(running))
        assert len(running) + len(rest) == searcher.total
        assert (suggested is None) == bool(rest)

    def test_a_later_launch_runs_the_rest(self, factory, whole):
        for place in (1, len(whole) - 1, len(whole)):
            searcher = self.build(factory, [record(trial, score=SCORE) for trial in whole[:place]])
            assert (searcher.total, searcher.remaining) == (len(whole), len(whole) - place)
            rest = self.drain(searcher, factory)
            assert len(rest) == len(whole) - place
            assert {trial.id for trial in rest}.isdisjoint(trial.id for trial in whole[:place])

    def test_a_trial_that_was_interrupted_counts_as_not_run(self, factory, whole):
        for place in (0, len(whole) - 1):
            interrupted = replace(record(whole[place], score=None), status="running", ended=None)
            searcher = self.build(factory, [interrupted])
            assert searcher.remaining == searcher.total
            assert whole[place].id in {trial.id for trial in self.drain(searcher, factory)}

    def test_reports_between_start_and_end_are_taken(self, factory):
        searcher = self.build(factory, [])
        searcher.suggest("a")
        searcher.on_trial_result("a", _report(final=False))
        searcher.on_trial_result("a", {"training_iteration": 2})  # an epoch that is not evaluated
        END["done"](searcher, "a")
        assert searcher.remaining == searcher.total - 1

    def test_tune_saves_nothing_of_it(self, factory, tmp_path):
        searcher = self.build(factory, [])
        before, files = searcher.remaining, sorted(tmp_path.rglob("*"))
        searcher.save(str(tmp_path / "state"))
        searcher.restore(str(tmp_path / "state"))
        assert sorted(tmp_path.rglob("*")) == files
        assert searcher.remaining == before
