"""What a verification found, in a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.markup import escape

from advlora_platform.report.document import Table, Tone
from advlora_platform.report.terminal import WIDTH, terminal_table
from advlora_platform.report.wording import ABSENT, points

if TYPE_CHECKING:
    from advlora_platform.export import Reproduction

TONES: dict[str, Tone] = {"equal": "good", "within tolerance": "plain", "not reproduced": "bad"}


def reproductions_text(trials: Sequence[Reproduction], finished: int, width: int = WIDTH) -> str:
    """Returns which trials came out again as text with rich markup, and what was different where they did not.

    Args:
        trials: Those that were run again.
        finished: Number of finished trials in the pack.
        width: No line is longer.
    """
    counts = ", ".join(f"{sum(trial.verdict == verdict for trial in trials)} {verdict}" for verdict in TONES)
    total = f"Of {finished} finished trials, {len(trials)} were run again: {counts}."
    sentences = [*_reasons(trials), total]
    lines = [line for text in sentences for line in textwrap.wrap(text, width, break_on_hyphens=False)]
    return "\n".join(["", terminal_table(_table(trials), width), "", *map(escape, lines)])


def _table(trials: Sequence[Reproduction]) -> Table:
    rows = tuple(
        (trial.arm, str(trial.seed), trial.phase, trial.trial_id[:8], trial.verdict, *_worst(trial)) for trial in trials
    )
    header = ("arm", "seed", "phase", "trial", "verdict", "points", "in")
    return Table(header, "lrlclrl", rows, tuple(TONES[trial.verdict] for trial in trials))


def _worst(trial: Reproduction) -> tuple[str, str]:
    """Returns the largest difference and its metric, or the first metric that is missing now."""
    known = {name: now - then for name, (then, now) in trial.differences.items() if now is not None}
    if not known:
        return ABSENT, next(iter(trial.differences), ABSENT)
    name = max(known, key=lambda metric: abs(known[metric]))
    return points(known[name]), name


def _reasons(trials: Sequence[Reproduction]) -> Iterator[str]:
    """Yields what was different, once for all trials that share it."""
    different = [trial for trial in trials if trial.verdict != "equal"]
    for reasons in dict.fromkeys(trial.reasons for trial in different):
        names = ", ".join(f"{trial.arm} seed {trial.seed}" for trial in different if trial.reasons == reasons)
        shared = len({trial.reasons for trial in different}) == 1 and len(different) > 1
        yield f"{'All that differ' if shared else names}: {'; '.join(reasons)}."
