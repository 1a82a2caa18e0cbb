"""Which finished trials of a study tell about low rank: full fine-tunings, and trained adapters by start and rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from advlora.config import LowRankAdapter, TrialConfig
from advlora.config.adapters import FullFineTuning
from advlora.errors import UserError
from advlora_platform.kinds import kind_of
from advlora_platform.study import Ledger, Study, StudyFolder, reopen


@dataclass(frozen=True)
class Trained:
    """A finished trial.

    Attributes:
        arm: Its arm.
        config: Its configuration.
        metrics: Its last report.
        folder: Where its trained weights lie.
    """

    arm: str
    config: TrialConfig
    metrics: dict[str, float]
    folder: Path

    @property
    def adversarial(self) -> bool:
        """Whether it was trained against an attack."""
        return self.config.attack.adversarial


@dataclass(frozen=True)
class OpenedStudy:
    """A study folder with its finished trials."""

    study: Study
    folder: StudyFolder
    trials: tuple[Trained, ...]

    @property
    def full(self) -> list[Trained]:
        """Full fine-tunings."""
        return [trial for trial in self.trials if isinstance(trial.config.adapter, FullFineTuning)]

    @property
    def adapters(self) -> list[Trained]:
        """Low-rank adapters that were trained against an attack."""
        return [
            trial for trial in self.trials if isinstance(trial.config.adapter, LowRankAdapter) and trial.adversarial
        ]


def open_study(path: Path) -> OpenedStudy:
    """Reads a study folder; only trials that the study as it is now plans to report count.

    Raises:
        UserError: If the folder's study is damaged.
    """
    study, folder = reopen(path)
    known = {record.trial_id: record for record in Ledger(folder).records() if record.status == "done"}
    plans = kind_of(study).reported(list(known.values()))
    trials = [trial for plan in plans for trial in plan.trials if trial.id in known]
    found = tuple(Trained(each.arm, each.config, known[each.id].metrics, folder.trial(each.id)) for each in trials)
    return OpenedStudy(study, folder, found)


def check_comparable(opened: OpenedStudy, sweep: OpenedStudy) -> None:
    """Checks that there is something to compare, and that like is compared with like.

    Raises:
        UserError: With one sentence per problem.
    """
    name, problems = opened.study.name, []
    for adversarial, what in ((True, "adversarial"), (False, "clean")):
        arms = sorted({trial.arm for trial in opened.full if trial.adversarial == adversarial})
        if not arms:
            keys = "adapter.kind: full" + ("" if adversarial else " and attack.kind: none")
            problems.append(f"study '{name}' has no finished {what} full fine-tuning (an arm with {keys})")
        if len(arms) > 1:
            problems.append(
                f"study '{name}' has several arms of {what} full fine-tuning ({', '.join(arms)}); one is needed"
            )
    problems += _differences(opened.full, f"the full fine-tunings of study '{name}'")
    if sweep.adapters:
        problems += _differences([*opened.full[:1], *sweep.adapters], f"'{name}' and the sweep '{sweep.study.name}'")
    if sweep.study.protocol != opened.study.protocol:
        problems.append(f"'{name}' and the sweep '{sweep.study.name}' were evaluated under different protocols")
    if problems:
        raise UserError(list(dict.fromkeys(problems)))


def _differences(trials: Sequence[Trained], which: str) -> list[str]:
    sizes = {"model": len({c.config.model for c in trials}), "data set": len({c.config.data for c in trials})}
    return [f"{which} differ in their {part}" for part, size in sizes.items() if size > 1]
