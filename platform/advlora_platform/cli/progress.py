"""Live progress of a study: a line per finished trial, and on a terminal a bar with the time left."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.text import Text

from advlora.metrics import Metric
from advlora_platform.cli.console import messages, text_width
from advlora_platform.study.failures import Failure
from advlora_platform.study.trials import Trial

GAP, INDENT = "  ", "      "


class ProgressDisplay:
    """An `Observer` that prints what happens; estimates the time left from the trials that have ended."""

    def __init__(self, study: str, arms: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        """Takes the name of the study, and arm -> the values that define it, which its lines need not repeat."""
        self._study, self._arms = study, arms or {}
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}", markup=False),
            console=messages,
            transient=True,
        )
        self._task = self._bar.add_task(f"{study}: starting Ray", total=None, left="")
        self._done = self._total = 0
        self._begin: float | None = None
        self._started: dict[str, float] = {}

    def __enter__(self) -> Self:
        if messages.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def expect(self, total: int, remaining: int) -> None:
        """Says how many trials the study has and how many of them are still to run."""
        self._done, self._total, self._begin = 0, remaining, None
        kept = f" ({total - remaining} are done already)" if remaining < total else ""
        head = f"[bold]{escape(self._study)}[/]: {remaining} of {total} trials to run{kept}; starting Ray ..."
        messages.print(head, markup=True)
        self._bar.update(self._task, total=remaining)

    def waiting(self, text: str) -> None:
        """Prints what the study waits for."""
        _print_wrapped(text, "yellow")

    def trial_started(self, trial: Trial) -> None:
        """Remembers when the first trial began: Ray's own start is no measure of a trial."""
        now = time.monotonic()
        self._begin = self._begin or now
        self._started[trial.id] = now
        self._bar.update(self._task, description=f"{self._study}: {self._label(trial)}")

    def trial_reported(self, trial: Trial, epoch: int, metrics: Mapping[str, float]) -> None:
        """An epoch alone prints nothing: the bar shows what runs."""

    def trial_finished(
        self, trial: Trial, metrics: Mapping[str, float], stopped_early: bool, unreliable: str = ""
    ) -> None:
        """Prints the trial with its accuracies."""
        parts = [f"{name} {value:6.1%}" for name, value in _accuracies(metrics) if value is not None]
        self._line(trial, "val " + "  ".join(parts) + ("  (stopped early)" if stopped_early else ""))
        if unreliable:
            _print_below(f"not reliable: {unreliable}", "yellow")

    def trial_failed(self, trial: Trial, failure: Failure) -> None:
        """Prints the failure in one line."""
        first = next(iter(failure.message.splitlines()), "")
        self._line(trial, f"[red]failed ({failure.kind})[/]")
        if first:
            _print_below(first)

    def _line(self, trial: Trial, text: str) -> None:
        """Prints a line; `text` is rich markup."""
        self._done += 1
        seconds = time.monotonic() - self._started.get(trial.id, time.monotonic())
        left = self._time_left()
        count = f"[{self._done:>{len(str(self._total))}}/{self._total}]"
        _print_fitting(f"{count} {self._label(trial)}", f"{text}  {seconds:.1f} s  {left}".rstrip())
        self._bar.update(self._task, completed=self._done, left=left)

    def _time_left(self) -> str:
        if self._begin is None or not 0 < self._done < self._total:
            return ""
        seconds = (time.monotonic() - self._begin) / self._done * (self._total - self._done)
        return f"{int(seconds // 60)}:{int(seconds % 60):02d} left"

    def _label(self, trial: Trial) -> str:
        if trial.phase == "ablate":
            return trial.name
        fixed = self._arms.get(trial.arm, {})
        free = {_named(key): _short(value) for key, value in trial.values.items() if key not in fixed}
        varied = ", ".join(f"{name}={value}" for name, value in free.items()) or "base"
        return f"tune {trial.arm}: {varied}" if trial.phase == "tune" else varied


def _print_fitting(head: str, tail: str) -> None:
    """Prints a trial and what became of it, side by side where that fits; `tail` is rich markup."""
    if len(head) + len(GAP) + Text.from_markup(tail).cell_len <= text_width(messages):
        messages.print(escape(head) + GAP + tail, markup=True)
        return
    _print_wrapped(head, "")
    messages.print(INDENT + tail, markup=True)


def _print_below(text: str, style: str = "") -> None:
    _print_wrapped(INDENT + text, style)


def _print_wrapped(text: str, style: str) -> None:
    """Prints text in as many lines as it needs."""
    width = text_width(messages)
    for line in textwrap.wrap(text, width, subsequent_indent=INDENT, break_on_hyphens=False):
        messages.print(line, style=style)


def _named(key: str) -> str:
    """Returns the end of a key that tells what it is: `adaptive.enabled`, not `enabled`."""
    return ".".join(key.split(".")[-2:])


def _accuracies(metrics: Mapping[str, float]) -> tuple[tuple[str, float | None], ...]:
    """Returns clean accuracy on `val`, and robust accuracy at the first epsilon."""
    clean, wanted = metrics.get(str(Metric.clean("val"))), Metric.robust("val", 0)
    known = {name: Metric.parse(name) for name in metrics}
    at_epsilons = (metrics[name] for name, metric in known.items() if replace(metric, epsilon=0) == wanted)
    return ("clean", clean), ("robust", next(at_epsilons, None))


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
