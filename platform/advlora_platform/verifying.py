"""`advlora verify`: is a pack as it was sealed, and do its trials come out again?"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advlora.errors import ConfigError, UserError
from advlora.identity import code_version
from advlora_platform.checking import check_study
from advlora_platform.export import Circumstances, Pack, Reproduction, contradictions, open_pack, reproduction
from advlora_platform.launch import run_trials
from advlora_platform.packing import data_hashes
from advlora_platform.study import Ledger, Observer, Record, StudyFolder, read_json, reopen, trials_of
from advlora_platform.study.environment import load_environment
from advlora_platform.study.outcomes import Shelf
from advlora_platform.study.trials import Trial, TrialFactory


@dataclass(frozen=True)
class Verification:
    """What a verification found.

    Attributes:
        study: Name of the study.
        digest: Stands for every number of the pack.
        finished: Number of finished trials in the pack.
        trials: Those that were run again.
    """

    study: str
    digest: str
    finished: int
    trials: tuple[Reproduction, ...]

    @property
    def reproduced(self) -> bool:
        """Whether every trial that was run again came out, at least within tolerance."""
        return all(trial.verdict != "not reproduced" for trial in self.trials)

    def to_json(self) -> dict[str, Any]:
        """Returns plain data."""
        trials = [trial.to_json() for trial in self.trials]
        about = {"study": self.study, "digest": self.digest, "finished": self.finished}
        return {**about, "reproduced": self.reproduced, "trials": trials}


def verify(
    path: Path,
    out: Path,
    *,
    drawn: int | None = None,
    seed: int = 0,
    tolerance: float = 0.01,
    listeners: Sequence[Observer] = (),
    wait: bool = False,
) -> Verification:
    """Checks a pack and runs its trials again.

    Args:
        path: The pack.
        out: Where they are run; a folder that was begun is continued.
        drawn: How many trials to draw; None for all, 0 to check the pack alone.
        seed: Seed of the draw.
        tolerance: Largest difference of an accuracy that is within tolerance, as a fraction.
        listeners: Observers, such as a progress display.
        wait: Whether to wait for another process that drives `out`.

    Raises:
        UserError: If the pack was changed or contradicts itself, if the data are others here, or if `out` holds
            another study.
    """
    pack = open_pack(path)
    study, folder = reopen(pack.folder.path)
    records = Ledger(folder).records()
    done = [record for record in records if record.status == "done"]
    factory = trials_of(study)
    problems = list(_problems(pack, factory, records))
    if problems:
        raise UserError([f"{path}: {problem}" for problem in problems])
    chosen = draw(done, drawn, seed)
    if not chosen:
        return Verification(study.name, pack.digest, len(done), ())
    check_study(study)
    _check_place(out, folder)
    trials = {record.trial_id: _again(factory, record) for record in chosen}
    again = run_trials(study, list(trials.values()), out, listeners, wait=wait)
    found = tuple(_compare(record, trials[record.trial_id], again, pack, out, tolerance) for record in chosen)
    return Verification(study.name, pack.digest, len(done), found)


def draw(records: Sequence[Record], number: int | None, seed: int) -> list[Record]:
    """Draws trials without replacement, in their order; all of them for None, or where there are no more."""
    if number is None or number >= len(records):
        return list(records)
    chosen = set(random.Random(seed).sample(range(len(records)), number))  # noqa: S311
    return [record for place, record in enumerate(records) if place in chosen]


def _problems(pack: Pack, factory: TrialFactory, records: Sequence[Record]) -> Iterator[str]:
    """Yields what shows that numbers were changed, or cannot come out here, before anything is run."""
    yield from contradictions(records, Shelf(pack.folder))
    done = [record for record in records if record.status == "done"]
    here: Mapping[str, str] = data_hashes(done, factory.transfer)
    for name, sealed in pack.content["data"].items():
        if here.get(name) != sealed:
            yield f"data set '{name}' has the hash {here.get(name)} here, and {sealed} in the pack; use the same data"
            return
    for record in records:
        trial = _again(factory, record)
        if trial.config.model_dump(mode="json") != record.config:
            yield f"trial {record.trial_id}: its configuration is not that of arm '{record.arm}' of study.yaml"
        elif pack.content["code"]["code_version"] == code_version() and trial.id != record.trial_id:
            yield f"trial {record.trial_id}: its configuration has the id {trial.id}"


def _check_place(out: Path, folder: StudyFolder) -> None:
    """Refuses the folder of the study itself, where every trial would be found done."""
    ours, theirs = read_json(StudyFolder(out).identity), read_json(folder.identity)
    if ours is not None and theirs is not None and ours["study_id"] == theirs["study_id"]:
        raise ConfigError(f"--out '{out}' is where the pack comes from; choose another folder")


def _again(factory: TrialFactory, record: Record) -> Trial:
    return factory.trial(record.arm, record.seed, record.values, record.phase)


def _compare(
    record: Record, trial: Trial, again: Mapping[str, Record], pack: Pack, out: Path, tolerance: float
) -> Reproduction:
    before = Circumstances(pack.content["code"]["code_version"], load_environment(pack.folder.trial(record.trial_id)))
    here = Circumstances(code_version(), load_environment(StudyFolder(out).trial(trial.id)))
    return reproduction(record, again.get(trial.id), tolerance, before, here)
