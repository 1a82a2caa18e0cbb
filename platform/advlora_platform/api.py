"""Studies from Python: run one, or open one that has run, and get its numbers as data frames."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from advlora.errors import ConfigError
from advlora_platform.analysis import Summary
from advlora_platform.checking import check_study
from advlora_platform.launch import frames_of, launch, summarise
from advlora_platform.study import Study, StudyFolder, home, reopen
from advlora_platform.study.library import load_any
from advlora_platform.tracking import known_runs

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class OpenStudy:
    """A study and its folder.

    Attributes:
        study: What its YAML says.
        folder: Where it has run.
    """

    study: Study
    folder: StudyFolder

    @cached_property
    def summary(self) -> Summary:
        """What it found, as far as it has run."""
        return summarise(self.study, self.folder, known_runs(self.folder))

    def to_frame(self) -> DataFrame:
        """Returns one row per reported trial: `arm`, `seed`, `status`, `trial`, what varies, and every metric."""
        import pandas as pd

        rows = [
            {"arm": arm.name, "seed": trial.seed, "status": trial.status, "trial": trial.trial_id}
            | trial.values
            | trial.metrics
            for arm in self.summary.every_arm
            for trial in arm.trials
        ]
        return pd.DataFrame(rows)

    def tables(self) -> dict[str, DataFrame]:
        """Returns every table of the report with exact numbers, by the name of its section."""
        return frames_of(self.folder.path)


def run(study: str | Path, changes: Iterable[str] = (), out: Path | str | None = None) -> OpenStudy:
    """Runs what is left of a study on Ray, as `advlora ablate` and `advlora sweep` do; called again, it continues.

    Args:
        study: Name of a shipped study, or a YAML file.
        changes: Overrides such as `seeds=[0,1]`, as of `--set`.
        out: The study folder; by default `runs/STUDY`, or one beside it where that holds another study.

    Raises:
        UserError: If the study has problems, or its folder cannot hold it.
    """
    loaded = load_any(str(study), changes)
    check_study(loaded)
    folder = home(loaded)[0] if out is None else Path(out)
    launch(loaded, folder)
    return open_study(folder)


def open_study(path: Path | str) -> OpenStudy:
    """Opens the folder of a study that has run, even while it runs.

    Raises:
        ConfigError: If the folder holds no study, or its `study.yaml` cannot be read.
    """
    if not StudyFolder(Path(path)).study.is_file():
        raise ConfigError(f"'{path}' is no study folder (it has no study.yaml)")
    return OpenStudy(*reopen(Path(path)))
