"""Which configuration of a study is exported: the best, under constraints where they are asked for, or a named arm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from advlora.errors import ConfigError, UserError, did_you_mean
from advlora_platform.analysis import ArmResult, Recommendation, Summary, asked_arm
from advlora_platform.export import best_text
from advlora_platform.kinds import kind_of
from advlora_platform.launch import conclude, summarise
from advlora_platform.study import Ledger, Study, StudyFolder
from advlora_platform.study.constraints import parse_constraint
from advlora_platform.tracking import known_runs


@dataclass(frozen=True)
class Choice:
    """A configuration of a study that has run.

    Attributes:
        study: The study, with the constraints that were asked for.
        summary: What it found.
        best: The configuration, one of its trials, and why it was chosen.
    """

    study: Study
    summary: Summary
    best: Recommendation

    @property
    def arm(self) -> ArmResult | None:
        """The arm that it belongs to; None for a trial of a search."""
        return next((arm for arm in self.summary.every_arm if arm.name == self.best.arm), None)

    def text(self, file: str) -> str:
        """Returns the content of a file for `advlora train`; `file` is its name, for the reader."""
        return best_text(self.study, self.summary, self.best, file)


def choose(study: Study, folder: StudyFolder, where: Sequence[str] = (), arm: str | None = None) -> Choice:
    """Chooses a configuration.

    Args:
        study: The study.
        folder: Where it has run; its report is written again.
        where: Constraints beside those of the study; what the study itself recommends stays as it is.
        arm: An arm by name; None for the best.

    Raises:
        ConfigError: If a constraint cannot be read, or there is no such arm.
        UserError: If no finished configuration is left.
    """
    summary = conclude(study, folder)
    if arm is not None:
        return Choice(study, summary, _of_arm(study, folder, summary, arm))
    if where:
        study = _constrained(study, where)
        summary = summarise(study, folder, known_runs(folder))
    if summary.best is None:
        raise UserError(
            f"study '{study.name}' has no finished trial yet{_that_keeps(study)}, so there is nothing to export"
        )
    return Choice(study, summary, summary.best)


def _of_arm(study: Study, folder: StudyFolder, summary: Summary, name: str) -> Recommendation:
    arms = {arm.name: arm for arm in summary.every_arm}
    if name not in arms:
        nearest = did_you_mean(name, arms) or f"; arms: {', '.join(arms) or 'none'}"
        raise ConfigError(f"--arm: study '{study.name}' has no arm '{name}'{nearest}")
    records = {record.trial_id: record for record in Ledger(folder).records()}
    found = asked_arm(arms[name], summary.metrics.selecting, records, summary.data_hash, summary.confidence)
    if found is None:
        raise UserError(
            f"arm '{name}' of study '{study.name}' has no finished trial yet, so there is nothing to export"
        )
    return found


def _constrained(study: Study, where: Sequence[str]) -> Study:
    try:
        for text in where:
            parse_constraint(text, {})
    except ValueError as error:
        raise ConfigError(f"--where: {error}") from None
    narrowed = study.model_copy(update={"constraints": (*study.constraints, *where)})
    problems = kind_of(narrowed).constraint_problems()
    if problems:
        raise ConfigError([problem.replace("constraints:", "--where:") for problem in problems])
    return narrowed


def _that_keeps(study: Study) -> str:
    return f" that keeps {' and '.join(map(str, study.limits()))}" if study.constraints else ""
