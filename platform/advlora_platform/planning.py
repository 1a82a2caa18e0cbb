"""What a study will cost before it runs: trials, forward passes, and seconds from a measured probe."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from advlora.config import EvaluationProtocol, TrialConfig, parse, vary
from advlora.data import load_manifest
from advlora.errors import UserError
from advlora.evaluation.guards import guard_forwards
from advlora.models import VisionLanguageModel
from advlora.training.cost import evaluation_forwards, training_forwards
from advlora.training.workbench import Workbench
from advlora_platform.execution import available, concurrency
from advlora_platform.launch import trial_factory
from advlora_platform.search.finalists import confirmation_plans
from advlora_platform.search.plan import ArmPlan, Scores, plan_arms, scores_of
from advlora_platform.search.sweep import belonging
from advlora_platform.study.folder import StudyFolder
from advlora_platform.study.ledger import Ledger, Record
from advlora_platform.study.spec import AblationStudy, Study, SweepStudy
from advlora_platform.study.trials import TrialFactory

PROBE_IMAGES = 128
PROBE_SECONDS = 1.5


@dataclass(frozen=True)
class PlannedArm:
    """The trials of one arm."""

    name: str
    tuning: int
    trials: int
    done: int
    forwards: float
    """Vision-tower forward passes (F, per image) of one trial, training and evaluation."""
    tuning_forwards: float = 0.0
    """The same of one tuning trial, which is neither measured on `test` nor checked."""
    tuned: int = 0
    """Tuning trials that are done."""

    @property
    def left(self) -> float:
        """Forward passes that are still to run."""
        return self.forwards * (self.trials - self.done) + self.tuning_forwards * (self.tuning - self.tuned)


@dataclass(frozen=True)
class Plan:
    """What a study would run."""

    name: str
    kind: str
    arms: tuple[PlannedArm, ...]
    concurrency: int
    """Trials at a time; 0 where not even one fits."""
    workers: int
    seconds_per_forward: float | None
    """None where no trial fits, so that nothing was measured."""
    obstacle: str = ""
    """Why no trial fits here; empty where one does."""

    @property
    def trials(self) -> int:
        """All trials, tuning included."""
        return sum(arm.tuning + arm.trials for arm in self.arms)

    @property
    def forwards(self) -> float:
        """Forward passes of all trials that are not done."""
        return sum(arm.left for arm in self.arms)

    @property
    def seconds(self) -> float | None:
        """Estimated seconds of all trials that are not done, without the start of Ray; None where none fits."""
        return None if self.seconds_per_forward is None else self.forwards * self.seconds_per_forward / self.concurrency

    def to_json(self) -> dict[str, Any]:
        """Returns the plan as plain data."""
        return {**asdict(self), "trials": self.trials, "forwards": self.forwards, "seconds": self.seconds}

    def to_text(self) -> str:
        """Returns the plan as a table."""
        head = f"{'arm':<40} {'tuning':>7} {'trials':>6} {'done':>5} {'F per trial':>12}"
        rows = [
            f"{a.name:<40} {a.tuning:>7} {a.trials:>6} {a.done + a.tuned:>5} {a.forwards:>12,.0f}" for a in self.arms
        ]
        return "\n".join([f"{self.kind} '{self.name}'", "", head, *rows, "", self._total()])

    def _total(self) -> str:
        if self.seconds is None or self.seconds_per_forward is None:
            return f"{self.trials} trials, {self.forwards:.3g} F in all; here none can run: {self.obstacle}"
        return (
            f"{self.trials} trials, {self.concurrency} at a time with {self.workers} worker(s) each; "
            f"about {self.seconds / 60:.1f} minutes, early stopping not counted "
            f"(measured: {self.seconds_per_forward * 1e6:.0f} µs per image and forward pass)"
        )


def plan_study(study: Study, out: Path) -> Plan:
    """Counts the trials of a study and measures one forward pass to turn them into time.

    A study for a larger machine or cluster than this one is counted too, and the plan says what does not fit.

    Raises:
        ModelError: If a trial fits, but its model cannot be loaded.
    """
    base, obstacle = parse(TrialConfig, study.base), ""
    try:
        slots = concurrency(base.resources, available(), study.max_concurrent)
    except UserError as error:
        slots, obstacle = 0, str(error)
    return Plan(
        study.name,
        study.kind,
        tuple(_planned_arms(study, out)),
        slots,
        base.resources.workers,
        _seconds_per_forward(base, slots) if slots else None,
        obstacle,
    )


def _planned_arms(study: Study, out: Path) -> list[PlannedArm]:
    records = Ledger(StudyFolder(out.resolve())).records()
    base, factory = parse(TrialConfig, study.base), trial_factory(study)
    if not isinstance(study, AblationStudy):
        known = belonging(study, factory, records)
        settled = sum(record.settled for record in known)
        search = PlannedArm("search", 0, study.search.trials, settled, _forwards(base, study.protocol, test=False))
        return [search, *_confirmation(study, factory, known, records)]
    scores = scores_of(study, records)
    return [_planned_arm(plan, study, scores) for plan in plan_arms(study, factory, scores)]


def _confirmation(
    study: SweepStudy, factory: TrialFactory, known: Sequence[Record], records: Sequence[Record]
) -> Iterator[PlannedArm]:
    """Yields the second stage of a sweep; with several objectives the Pareto set may make it longer."""
    if study.confirm is None:
        return
    settled = {record.trial_id for record in records if record.settled}
    trials = [trial for plan in confirmation_plans(study, factory, known) for trial in plan.trials]
    expected = max(study.confirm.top * len(study.confirm.seeds), len(trials))
    forwards = _forwards(parse(TrialConfig, study.base), study.confirm.protocol, test=True)
    yield PlannedArm("confirmation", 0, expected, sum(trial.id in settled for trial in trials), forwards)


def _planned_arm(plan: ArmPlan, study: AblationStudy, scores: Scores) -> PlannedArm:
    config = parse(TrialConfig, vary(TrialConfig, study.base, plan.arm.values))
    return PlannedArm(
        plan.arm.name,
        plan.budget,
        len(study.seeds),
        sum(trial.id in scores for trial in plan.trials),
        _forwards(config, study.protocol, test=True),
        _forwards(config, study.protocol, test=False, guarded=False),
        sum(trial.id in scores for trial in plan.tuning),
    )


def _forwards(config: TrialConfig, protocol: EvaluationProtocol, test: bool, guarded: bool = True) -> float:
    manifest = load_manifest(config.data)
    images = config.data.train_samples or manifest.splits["train"].samples
    splits = ("val", "test") if test else ("val",)
    evaluated = sum(evaluation_forwards(protocol, split) for split in splits)
    checked = guarded and manifest.task != "retrieval"  # the guards compare accuracies of single images
    guards = guard_forwards(protocol, len(manifest.classes)) if checked else 0.0
    return training_forwards(config, images) + evaluated + guards


def _seconds_per_forward(config: TrialConfig, slots: int) -> float:
    """Measures an attack's gradient, half of which is F, with as many at once as trials will run on this machine.

    Trials that share a machine slow each other down, above all where two cores are two threads of one.
    """
    torch.set_num_threads(config.resources.cpus_per_worker)
    model = Workbench().model(config.model)
    images = torch.rand(PROBE_IMAGES, 3, model.image_size, model.image_size)
    here = min(slots * config.resources.workers, len(os.sched_getaffinity(0)))
    _gradients(model, images, 0.0)
    with ThreadPoolExecutor(here) as pool:
        rounds = sum(pool.map(lambda _: _gradients(model, images, PROBE_SECONDS), range(here)))
    return PROBE_SECONDS * here / (2 * rounds * PROBE_IMAGES)


def _gradients(model: VisionLanguageModel, images: Tensor, seconds: float) -> float:
    """Returns how many input gradients are taken in a time."""
    begin, rounds = time.perf_counter(), 0
    while True:
        points = images.clone().requires_grad_()
        torch.autograd.grad(model.encode_images(points).sum(), points)
        rounds += 1
        elapsed = time.perf_counter() - begin
        if elapsed >= seconds:
            return rounds * seconds / elapsed
