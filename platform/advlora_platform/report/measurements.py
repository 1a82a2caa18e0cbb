"""A record of `advlora evaluate`, and two of them compared, in a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.markup import escape

from advlora.metrics import Metric, readable_epsilon
from advlora_platform.report.document import Table, Tone
from advlora_platform.report.terminal import terminal_table
from advlora_platform.report.wording import percent, points, probability

if TYPE_CHECKING:
    from advlora_platform.measure import Comparison, EvaluationRecord
    from advlora_platform.measure.comparison import ComparedRow


def record_text(record: EvaluationRecord) -> str:
    """Returns a record as text with rich markup: accuracies, and what the checks found."""
    data = record.data
    head = f"[bold]{escape(record.model.name)}[/] on {data.name}/{data.split}, {data.describe()}"
    protocol = f"protocol {record.protocol_name} ({record.protocol_hash}): {record.protocol_text}"
    further = ["", terminal_table(_transfer(record))] if record.transfer else []
    return "\n".join([head, escape(protocol), "", terminal_table(_accuracies(record)), *_checks(record), *further])


def comparison_text(comparison: Comparison) -> str:
    """Returns a comparison as text with rich markup."""
    head = [f"A  [bold]{escape(comparison.first)}[/]", f"B  [bold]{escape(comparison.second)}[/]"]
    notes = [f"[yellow]{escape(note)}[/]" for note in comparison.notes]
    rows, tones = tuple(map(_compared, comparison.rows)), tuple(map(_tone, comparison.rows))
    header = ("epsilon", "under", "A %", "B %", "A - B", "95% interval", "only A", "only B", "p (McNemar)")
    table = terminal_table(Table(header, "llrrrrrrr", rows, tones))
    return "\n".join([*head, escape(comparison.protocol), *notes, "", table])


def _accuracies(record: EvaluationRecord) -> Table:
    if not record.accuracies:  # retrieval
        recalls = tuple((name, percent(value)) for name, value in record.metrics.items())
        return Table(("metric", "%"), "lr", recalls)
    clean = record.curve[0][1]
    rows = tuple(
        (_epsilon(epsilon), label, percent(value))
        for epsilon, attacks in record.accuracies.items()
        for label, value in attacks.items()
    )
    return Table(("epsilon", "under", "accuracy (%)"), "llr", (("0", "clean", percent(clean)), *rows))


def _transfer(record: EvaluationRecord) -> Table:
    """Clean accuracy, and that under all attacks, on every further data set."""
    radii = sorted(epsilon for epsilon, _ in record.curve if epsilon)
    numbers = [Metric.clean("test"), *(Metric.robust("test", epsilon) for epsilon in radii)]
    rows = [
        (name, data.split, str(data.samples), *(percent(record.metrics[str(n.transferred(name))]) for n in numbers))
        for name, data in record.transfer.items()
    ]
    mean = ("mean of the sets", "", "", *(percent(record.metrics[str(n.transferred())]) for n in numbers))
    headings = ("clean (%)", *(f"{readable_epsilon(epsilon)} (%)" for epsilon in radii))
    return Table(("transfer", "split", "examples", *headings), "llr" + "r" * len(numbers), (*rows, mean))


def _checks(record: EvaluationRecord) -> Iterator[str]:
    if not record.guards:
        return
    failed = [guard for guard in record.guards if not guard.ok]
    if not failed:
        yield f"[green]{len(record.guards)} checks found no reason to doubt these numbers[/]"
    for guard in failed:
        yield f"[red]unreliable: {guard.name}: {escape(guard.reason)}[/]"


def _compared(row: ComparedRow) -> tuple[str, ...]:
    found = row.found
    return (
        _epsilon(row.epsilon),
        row.attack,
        percent(row.first),
        percent(row.second),
        points(found.difference),
        f"{points(found.low)} to {points(found.high)}",
        str(found.only_first),
        str(found.only_second),
        probability(found.p_value),
    )


def _tone(row: ComparedRow) -> Tone:
    """Marks a difference whose interval does not hold 0."""
    if row.found.low > 0:
        return "good"
    return "bad" if row.found.high < 0 else "plain"


def _epsilon(epsilon: str) -> str:
    return epsilon.replace("_", "/") or "0"
