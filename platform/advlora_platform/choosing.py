"""`advlora export`: the best configuration of a study, under constraints where they are asked for."""

from __future__ import annotations

from collections.abc import Sequence

from advlora.errors import ConfigError, UserError
from advlora_platform.export import best_text
from advlora_platform.kinds import kind_of
from advlora_platform.launch import conclude, summarise
from advlora_platform.study import Study, StudyFolder
from advlora_platform.study.constraints import parse_constraint
from advlora_platform.tracking import known_runs


def choose(study: Study, folder: StudyFolder, where: Sequence[str], file: str) -> tuple[str, str]:
    """Returns the text of a file for `advlora train`, and why this configuration was chosen.

    Args:
        study: The study.
        folder: Where it has run; its report is written again.
        where: Constraints beside those of the study; what the study itself recommends stays as it is.
        file: Name of the file, for its reader.

    Raises:
        ConfigError: If a constraint cannot be read.
        UserError: If no finished configuration keeps all of them.
    """
    summary = conclude(study, folder)
    if where:
        study = _constrained(study, where)
        summary = summarise(study, folder, known_runs(folder))
    if summary.best is None:
        raise UserError(
            f"study '{study.name}' has no finished trial yet{_that_keeps(study)}, so there is nothing to export"
        )
    return best_text(study, summary, summary.best, file), summary.best.reason


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
