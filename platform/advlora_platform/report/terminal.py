"""The report in a terminal: at most 110 columns, rich markup for tone only."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence

from rich.markup import escape

from advlora_platform.analysis import AblationSummary, ArmResult, Contrast, Summary, SweepResult, SweepSummary
from advlora_platform.report.document import Table, Tone
from advlora_platform.report.findings import ablation_selection, confirmation_sentences, holes, sweep_selection, tone_of
from advlora_platform.report.tables import (
    finalists_table,
    further_table,
    importance_table,
    pareto_table,
    status_of,
    trials_table,
)
from advlora_platform.report.wording import amount, difference, mean_with_margin, share, title_of

WIDTH = 110
TOP = 10
STYLES: dict[Tone, str] = {"good": "green", "bad": "red", "open": "yellow", "plain": ""}


def ablation_text(summary: AblationSummary) -> str:
    """Returns tables and verdicts of an ablation as text with rich markup."""
    return _text(summary, _ablation(summary), ablation_selection(summary))


def sweep_text(summary: SweepSummary) -> str:
    """Returns tables and verdicts of a sweep as text with rich markup."""
    return _text(summary, _sweep(summary, summary.sweep), sweep_selection(summary))


def _text(summary: Summary, body: Iterable[str], selection: str) -> str:
    head = f"[bold]{escape(summary.study)}[/] ({summary.kind}): {_progress(summary)}"
    return "\n".join([head, "", *body, *_footer(summary, selection)])


def terminal_table(table: Table) -> str:
    """Returns a table in columns as text with rich markup."""
    return "\n".join(_lines(table))


def _progress(summary: Summary) -> str:
    counts = summary.counts
    rest = [f"{counts[name]} {name}" for name in ("stopped", "running", "failed", "missing") if counts[name]]
    return ", ".join([f"{counts['done']} of {counts['planned']} done", *rest])


def _ablation(summary: AblationSummary) -> Iterator[str]:
    yield from _lines(_arms(summary))
    if summary.metrics.further:
        yield from ("", "[bold]Further metrics[/]", *_lines(further_table(summary)))
    if summary.effects:
        yield from ("", "[bold]Effect of switching a factor on (points)[/]", *_lines(_contrasts(summary.effects)))
    for name, answers in (
        ("Interactions", summary.interactions),
        (f"Against {summary.reference}", summary.comparisons),
    ):
        told = {summary.metrics.test_robust: "robust accuracy on test"}
        told |= {metric: title_of(metric).removesuffix(" (%)") for metric in summary.metrics.further}
        for metric, what in told.items():
            asked = [answer for answer in answers if answer.metric == metric]
            if asked:
                title = f"{name}, {what} (points)"
                yield from ("", f"[bold]{escape(title)}[/]", *_lines(_contrasts(asked)))


def _arms(summary: Summary) -> Table:
    metrics = summary.metrics
    epsilon = title_of(metrics.test_robust).removeprefix("test ")
    header = ("arm", f"test {epsilon}", "test clean", "val robust", "trained %", "train s", "forwards", "done")
    return Table(
        header,
        "lrrrrrrr",
        tuple(_arm(summary, arm) for arm in summary.arms),
        tuple(_tone(summary, arm) for arm in summary.arms),
    )


def _arm(summary: Summary, arm: ArmResult) -> tuple[str, ...]:
    metrics = summary.metrics
    accuracies = (metrics.test_robust, metrics.test_clean, metrics.val_robust)
    costs = {name: found.mean for name, found in arm.estimates.items()}
    return (
        _shortened(arm.name, 34),
        *(mean_with_margin(arm.estimates.get(metric)) for metric in accuracies),
        share(costs.get("params/trainable_fraction")),
        amount(costs.get("cost/seconds")),
        amount(costs.get("cost/forward_equivalents")),
        f"{arm.done}/{len(arm.trials)}",
    )


def _tone(summary: Summary, arm: ArmResult) -> Tone:
    if not arm.complete:
        return "bad"
    return "good" if summary.best is not None and summary.best.arm == arm.name else "plain"


def _contrasts(answers: Sequence[Contrast]) -> Table:
    rows = tuple(
        (
            _shortened(answer.name, 34),
            answer.metric.removeprefix("test/").partition("_")[0],
            difference(answer),
            f"{len(answer.differences)}/{answer.planned}",
            answer.verdict,
        )
        for answer in answers
    )
    return Table(("", "on", "difference", "seeds", "verdict"), "llrrl", rows, tuple(tone_of(a) for a in answers))


def _sweep(summary: SweepSummary, sweep: SweepResult) -> Iterator[str]:
    full = trials_table(summary, sweep, TOP)
    kept = len(full.header) - 2
    table = Table(full.header[:kept], full.align[:kept], tuple(row[:kept] for row in full.rows), full.tones)
    yield from _lines(table)
    if summary.confirmation is not None and summary.arms:
        title = f"Confirmed: {summary.confirmation.protocol}"
        yield from ("", f"[bold]{escape(_shortened(title, WIDTH))}[/]")
        yield from _lines(finalists_table(summary, summary.confirmation))
        for sentence in confirmation_sentences(summary.confirmation):
            yield from _labelled("", sentence)
    if len(sweep.trials) > TOP:
        yield f"... and {len(sweep.trials) - TOP} more in the report"
    if sweep.pareto:
        yield from ("", "[bold]Pareto front[/]", *_lines(pareto_table(sweep)))
    if sweep.importance:
        yield from ("", "[bold]Importance (PED-ANOVA)[/]", *_lines(importance_table(sweep)))


def _footer(summary: Summary, selection: str) -> Iterator[str]:
    yield ""
    yield from _labelled("Best", "none yet" if summary.best is None else summary.best.reason)
    yield from _labelled("Protocol", summary.protocol)
    yield from _labelled("Selection", selection)
    missing = holes(summary)
    if missing is not None:
        yield from _labelled("Incomplete", missing, "red")
    for line in _unfinished(summary):
        yield from _labelled("", line, "red")


def _unfinished(summary: Summary) -> Iterator[str]:
    for arm in summary.arms:
        open_trials = [trial for trial in arm.trials if trial.status != "done" or trial.unreliable]
        if open_trials:
            yield f"{arm.name}: " + ", ".join(f"seed {trial.seed} {status_of(trial)}" for trial in open_trials)
    for failure in summary.failures:
        kind, message = failure.kind.replace("_", " "), failure.message.splitlines()[0]
        yield f"{failure.arm}/{failure.trial_id[:8]} {kind}: {message}"


def _labelled(label: str, text: str, style: str = "") -> Iterator[str]:
    """Wraps a text behind a label."""
    for line in textwrap.wrap(text, WIDTH, initial_indent=f"{label:<13}", subsequent_indent=" " * 13):
        yield _styled(line, style)


def _lines(table: Table) -> Iterator[str]:
    """Sets a table in columns; what is too wide for the line is cut."""
    columns = list(zip(table.header, *table.rows, strict=True))
    widths = [max(len(trial) for trial in column) for column in columns]
    yield f"[dim]{escape(_line(table.header, table.align, widths))}[/]"
    for number, row in enumerate(table.rows):
        yield _styled(_line(row, table.align, widths), STYLES[table.tone(number)])


def _line(trials: Sequence[str], align: str, widths: Sequence[int]) -> str:
    parts = [
        trial.rjust(width) if column == "r" else trial.ljust(width)
        for trial, column, width in zip(trials, align, widths, strict=True)
    ]
    return _shortened("  ".join(parts).rstrip(), WIDTH)


def _styled(text: str, style: str) -> str:
    return f"[{style}]{escape(text)}[/]" if style else escape(text)


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
