"""What a study will cost before it runs: trials, forward passes, and seconds from a measured probe."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.markup import escape

from advlora.errors import UserError
from advlora.reading import dump_yaml
from advlora_platform import probe
from advlora_platform.execution import available, concurrency
from advlora_platform.kinds import PlannedArm, kind_of
from advlora_platform.report.document import Table
from advlora_platform.report.terminal import terminal_table
from advlora_platform.study import Ledger, Study, StudyFolder, reopened


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
    notes: tuple[str, ...] = ()
    """What a person should know of the design before it runs."""
    wider: dict[str, Any] = field(default_factory=dict)
    """What of `tuning` would reach beyond the edges at which choices lie; empty where none does."""

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
        """Returns the plan as text with rich markup: a table, and its total."""
        rows = tuple(
            (arm.name, str(arm.tuning), str(arm.trials), str(arm.done + arm.tuned), f"{arm.forwards:,.0f}")
            for arm in self.arms
        )
        table = Table(("arm", "tuning", "trials", "done", "F per trial"), "lrrrr", rows)
        head = [f"{self.kind} '{self.name}'", *(line for note in self.notes for line in textwrap.wrap(note, 80))]
        lines = [*map(escape, head), "", terminal_table(table), "", escape(self._total())]
        return "\n".join([*lines, *map(escape, self._offer())])

    def _offer(self) -> Iterator[str]:
        """Yields the YAML of a wider range; what was tried already is not run again."""
        if self.wider:
            yield from ("", "Some arms do best at the edge of what was tuned. A wider range, for the study's YAML:")
            yield from dump_yaml({"tuning": self.wider}).splitlines()

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
    trial, obstacle = study.trial, ""
    try:
        slots = concurrency(trial.resources, available(), study.max_concurrent)
    except UserError as error:
        slots, obstacle = 0, str(error)
    records, kind = reopened(Ledger(StudyFolder(out.resolve())).records()), kind_of(study)
    return Plan(
        study.name,
        study.kind,
        tuple(kind.planned(records)),
        slots,
        trial.resources.workers,
        probe.seconds_per_forward(trial, slots) if slots else None,
        obstacle,
        tuple(kind.notes()),
        kind.wider(records),
    )
