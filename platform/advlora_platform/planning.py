"""What a study will cost before it runs: trials, forward passes, and seconds from a measured probe."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from advlora.config import EvaluationProtocol, TrialConfig, parse, with_values
from advlora.cost import evaluation_forwards, training_forwards
from advlora.data import load_manifest
from advlora.workbench import Workbench
from advlora_platform.execution import available, concurrency
from advlora_platform.launch import cell_factory
from advlora_platform.study.folder import StudyFolder
from advlora_platform.study.ledger import Ledger
from advlora_platform.study.plan import arms
from advlora_platform.study.spec import AblationStudy, Study

PROBE_IMAGES = 128
PROBE_SECONDS = 1.0


@dataclass(frozen=True)
class PlannedArm:
    """The trials of one arm."""

    name: str
    tuning: int
    cells: int
    done: int
    forwards: float
    """Vision-tower forward passes (F, per image) of one trial, training and evaluation."""


@dataclass(frozen=True)
class Plan:
    """What a study would run."""

    name: str
    kind: str
    arms: tuple[PlannedArm, ...]
    concurrency: int
    workers: int
    seconds_per_forward: float

    @property
    def trials(self) -> int:
        """All trials, tuning included."""
        return sum(arm.tuning + arm.cells for arm in self.arms)

    @property
    def seconds(self) -> float:
        """Estimated seconds of all trials that are not done, without the start of Ray."""
        forwards = sum(arm.forwards * (arm.tuning + arm.cells - arm.done) for arm in self.arms)
        return forwards * self.seconds_per_forward / self.concurrency

    def to_json(self) -> dict[str, Any]:
        """Returns the plan as plain data."""
        return {**asdict(self), "trials": self.trials, "seconds": self.seconds}

    def to_text(self) -> str:
        """Returns the plan as a table."""
        head = f"{'arm':<40} {'tuning':>7} {'cells':>6} {'done':>5} {'F per trial':>12}"
        rows = [f"{a.name:<40} {a.tuning:>7} {a.cells:>6} {a.done:>5} {a.forwards:>12,.0f}" for a in self.arms]
        total = (
            f"{self.trials} trials, {self.concurrency} at a time with {self.workers} worker(s) each; "
            f"about {self.seconds / 60:.1f} minutes, early stopping not counted "
            f"(measured: {self.seconds_per_forward * 1e6:.0f} µs per image and forward pass)"
        )
        return "\n".join([f"{self.kind} '{self.name}'", "", head, *rows, "", total])


def plan_study(study: Study, out: Path) -> Plan:
    """Counts the trials of a study and measures one forward pass to turn them into time.

    Raises:
        UserError: If the machine or cluster cannot hold a trial.
    """
    base = parse(TrialConfig, study.base)
    slots = concurrency(base.resources, available(), study.max_concurrent)
    return Plan(
        study.name,
        study.kind,
        tuple(_planned_arms(study, out)),
        slots,
        base.resources.workers,
        _seconds_per_forward(base),
    )


def _planned_arms(study: Study, out: Path) -> list[PlannedArm]:
    records = Ledger(StudyFolder(out.resolve())).records()
    finished = {record.cell_id for record in records if record.status in {"done", "stopped"}}
    if not isinstance(study, AblationStudy):
        config = parse(TrialConfig, study.base)
        forwards = _forwards(config, study.protocol, test=False)
        return [PlannedArm("search", 0, study.search.trials, len(finished), forwards)]
    factory = cell_factory(study)
    planned = []
    for arm in arms(study):
        config = parse(TrialConfig, with_values(study.base, arm.values))
        tuning = study.tuning.trials if study.tuning is not None and config.adapter.kind != "none" else 0
        done = sum(record.arm == arm.name and record.cell_id in finished for record in records)
        forwards = _forwards(factory.cell(arm.name, 0, arm.values, "ablate").config, study.protocol, test=True)
        planned.append(PlannedArm(arm.name, tuning, len(study.seeds), done, forwards))
    return planned


def _forwards(config: TrialConfig, protocol: EvaluationProtocol, test: bool) -> float:
    manifest = load_manifest(config.data)
    images = config.data.train_samples or manifest.splits["train"].samples
    splits = ("val", "test") if test else ("val",)
    return training_forwards(config, images) + sum(evaluation_forwards(protocol, split) for split in splits)


def _seconds_per_forward(config: TrialConfig) -> float:
    torch.set_num_threads(config.resources.cpus_per_worker)
    model = Workbench().model(config.model)
    images = torch.rand(PROBE_IMAGES, 3, model.image_size, model.image_size)
    with torch.inference_mode():
        model.encode_images(images)
        begin, rounds = time.perf_counter(), 0
        while time.perf_counter() - begin < PROBE_SECONDS:
            model.encode_images(images)
            rounds += 1
    return (time.perf_counter() - begin) / (rounds * PROBE_IMAGES)
