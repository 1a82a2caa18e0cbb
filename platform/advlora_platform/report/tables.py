"""The tables of a report. None of them hides a trial that has no result."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from advlora.metrics import Metric, readable_epsilon
from advlora_platform.analysis import (
    AblationSummary,
    ArmResult,
    Confirmation,
    Contrast,
    Summary,
    SweepResult,
    SweepSummary,
    TrialResult,
)
from advlora_platform.report.document import Table, Tone
from advlora_platform.report.findings import tone_of
from advlora_platform.report.wording import (
    ABSENT,
    FLOPS,
    SECONDS,
    TRAINED_SHARE,
    amount,
    assignments,
    difference,
    mean_with_interval,
    mean_with_margin,
    measured,
    measured_with_interval,
    percent,
    probability,
    setting,
    share,
    short_names,
    short_titles,
    status_of,
    title_of,
)
from advlora_platform.search.plan import held_name

TOP = 10
"""So many rows of a long table are shown in a terminal."""
STATUS_TONES: dict[str, Tone] = {"done": "plain", "stopped": "open", "running": "open"}


def arms_table(summary: AblationSummary) -> Table:
    """The ablation table: accuracies with intervals beside sizes and costs."""
    metrics = summary.metrics
    accuracies = (metrics.test_robust, metrics.test_clean, *metrics.further, metrics.val_robust)
    short = {metrics.test_robust: title_of(metrics.test_robust), metrics.test_clean: "test clean"}
    short |= {metrics.val_robust: "val robust"} | {metric: title_of(metric) for metric in metrics.further}
    costs = ("trained %", "train s", "FLOP", "done")
    header = ("arm", *(title_of(metric) for metric in accuracies), *short.values(), *costs)
    shown = "a" + "f" * len(accuracies) + "t" * len(short) + "a" * len(costs)
    rows = tuple(
        (
            arm.name,
            *(mean_with_interval(arm.estimates.get(metric)) for metric in accuracies),
            *(mean_with_margin(arm.estimates.get(metric)) for metric in short),
            share(_mean(arm, TRAINED_SHARE)),
            amount(_mean(arm, SECONDS)),
            amount(_mean(arm, FLOPS)),
            f"{arm.done}/{len(arm.trials)}",
        )
        for arm in summary.arms
    )
    align = "l" + "r" * (len(header) - 1)
    return Table(header, align, rows, tuple(_arm_tone(summary, arm) for arm in summary.arms), shown)


def _mean(arm: ArmResult, metric: str) -> float | None:
    found = arm.estimates.get(metric)
    return None if found is None else found.mean


def _arm_tone(summary: Summary, arm: ArmResult) -> Tone:
    if summary.best is not None and summary.best.arm == arm.name:
        return "good"
    return "plain" if arm.complete else "bad"


def contrasts_table(answers: Sequence[Contrast], first: str, brief: Collection[str] | None = None) -> Table:
    """Differences with simultaneous intervals and verdicts; a terminal shows those of the metrics in `brief` or all."""
    header = (first, "on", "on", "difference (points)", "p", "p (together)", "seeds", "verdict")
    short = short_titles({answer.metric for answer in answers})
    chosen = tuple(row for row, answer in enumerate(answers) if brief is None or answer.metric in brief)
    rows = tuple(
        (
            answer.name,
            title_of(answer.metric).removesuffix(" (%)"),
            short[answer.metric],
            difference(answer),
            probability(answer.p),
            probability(answer.p_family),
            f"{len(answer.differences)}/{answer.planned}",
            answer.verdict,
        )
        for answer in answers
    )
    return Table(header, "lllrrrrl", rows, tuple(tone_of(answer) for answer in answers), "aftaffaa", chosen)


def uncertainty_table(answers: Sequence[Contrast]) -> Table:
    """What the variance of each difference comes from, in shares, and what would resolve it."""
    header = ("difference", "on", "seeds (%)", "images (%)", "rest (%)", "more seeds", "or more images")
    rows = []
    for answer in answers:
        variance = None if answer.estimate is None else answer.estimate.variance
        total = 0.0 if variance is None else sum(variance.parts())
        parts = [percent(part / total) for part in variance.parts()] if variance is not None and total else [ABSENT] * 3
        more = (ABSENT, ABSENT) if answer.more is None else (_count(answer.more.seeds), _count(answer.more.images))
        rows.append((answer.name, title_of(answer.metric).removesuffix(" (%)"), *parts, *more))
    return Table(header, "llrrrrr", tuple(rows), tuple(tone_of(answer) for answer in answers))


def _count(number: int | None) -> str:
    return "not enough" if number is None else str(number)


def curve_table(summary: AblationSummary) -> Table:
    """Robust accuracy of every arm at every epsilon."""
    curve = summary.metrics.curve
    header = ("arm", "0 (clean)", *(readable_epsilon(epsilon) for epsilon in curve.values()))
    names = (summary.metrics.test_clean, *curve)
    rows = tuple((arm.name, *(percent(_mean(arm, name)) for name in names)) for arm in summary.arms)
    return Table(header, "l" + "r" * len(names), rows)


def tuned_table(summary: AblationSummary) -> Table | None:
    """What was tuned inside each arm; None where nothing was."""
    arms = [arm for arm in summary.arms if arm.tuning["planned"]]
    keys = tuple(dict.fromkeys(key for arm in arms for key in arm.tuned or {}))
    if not arms:
        return None
    rows = tuple(
        (
            arm.name,
            *(_tuned(summary, arm, key) for key in keys),
            f"{arm.tuning['done']}/{arm.tuning['planned']}",
            str(arm.tuning["failed"]),
        )
        for arm in arms
    )
    tones = tuple[Tone, ...]("open" if arm.name in summary.edges else "plain" for arm in arms)
    return Table(("arm", *keys, "tried", "failed"), "l" + "r" * (len(keys) + 2), rows, tones)


def _tuned(summary: AblationSummary, arm: ArmResult, key: str) -> str:
    """Writes a tuned value, and whether it is the smallest or the largest that could be chosen."""
    if not arm.tuned or key not in arm.tuned:
        return ABSENT
    edge = summary.edges.get(arm.name, {}).get(key)
    return setting(arm.tuned[key]) + ("" if edge is None else f" ({edge})")


def held_table(summary: AblationSummary) -> Table:
    """Every arm with its own nuisance values and with those of the reference, side by side."""
    metric = summary.metrics.test_robust
    own = {answer.name: answer for answer in summary.comparisons if answer.metric == metric}
    held = {answer.name: answer for answer in summary.held_comparisons if answer.metric == metric}
    pairs = [(arm, arm.name.removesuffix(held_name(""))) for arm in summary.held]
    retuned = {arm.name: arm for arm in summary.arms}
    rows = tuple(
        (
            name,
            mean_with_margin(retuned[name].estimates.get(metric)),
            difference(own[name]),
            own[name].outcome,
            mean_with_margin(arm.estimates.get(metric)),
            difference(held[arm.name]),
            held[arm.name].outcome,
        )
        for arm, name in pairs
    )
    against = f"against {summary.reference}"
    header = ("arm", "retuned", against, "verdict", "held", f"held {against}", "verdict held")
    tones = tuple[Tone, ...]("plain" if own[n].outcome == held[a.name].outcome else "open" for a, n in pairs)
    return Table(header, "lrrlrrl", rows, tones)


def trials_table_by_arm(summary: AblationSummary) -> Table:
    """Every planned trial with its tracked run."""
    metrics = summary.metrics
    names = (metrics.test_robust, metrics.test_clean, metrics.val_robust, SECONDS)
    header = ("arm", "seed", "status", *(title_of(name) for name in names), "trial", "MLflow run")
    pairs = [(arm, trial) for arm in summary.every_arm for trial in arm.trials]
    rows = tuple(
        (
            arm.name,
            str(trial.seed),
            status_of(trial),
            *(measured(name, trial.metrics.get(name)) for name in names),
            _short_id(trial),
            trial.mlflow_run_id or ABSENT,
        )
        for arm, trial in pairs
    )
    return Table(header, "lrlrrrrcc", rows, tuple(_status_tone(trial) for _, trial in pairs))


def trials_table(summary: SweepSummary, sweep: SweepResult) -> Table:
    """Trials of a sweep, best first, those without a final value last."""
    keys = list(dict.fromkeys(key for trial in sweep.trials for key in trial.values))
    names = short_names(keys)
    others = (summary.metrics.val_robust, summary.metrics.val_clean, SECONDS)
    metrics = tuple(dict.fromkeys((*sweep.objectives, *others)))
    header = ("trial", *(title_of(metric) for metric in metrics), "status", "values", "id", "MLflow run")
    chosen = ranked(sweep)
    shown = "a" * (len(header) - 2) + "ff"
    rows = tuple(
        (
            str(trial.number),
            *(measured(metric, trial.metrics.get(metric)) for metric in metrics),
            status_of(trial),
            assignments(trial.values, names),
            _short_id(trial),
            trial.mlflow_run_id or ABSENT,
        )
        for trial in chosen
    )
    tones = tuple(_status_tone(trial) for trial in chosen)
    return Table(header, "r" + "r" * len(metrics) + "llcc", rows, tones, shown, tuple(range(len(chosen)))[:TOP])


def ranked(sweep: SweepResult) -> list[TrialResult]:
    """Sorts trials by the first objective; unfinished ones follow in order, for their values are not final."""
    metric, goal = next(iter(sweep.objectives.items()))
    done = [trial for trial in sweep.trials if trial.status == "done" and metric in trial.metrics]
    rest = [trial for trial in sweep.trials if trial not in done]
    return sorted(done, key=lambda trial: trial.metrics[metric], reverse=goal == "max") + rest


def pareto_table(sweep: SweepResult) -> Table:
    """The trials of the front, best first."""
    names = short_names(key for trial in sweep.trials for key in trial.values)
    front = [trial for trial in ranked(sweep) if trial.number in (sweep.pareto or ())]
    rows = tuple(
        (
            str(trial.number),
            *(measured(metric, trial.metrics[metric]) for metric in sweep.objectives),
            assignments(trial.values, names),
        )
        for trial in front
    )
    header = ("trial", *(title_of(metric) for metric in sweep.objectives), "values")
    return Table(header, "r" + "r" * len(sweep.objectives) + "l", rows)


def importance_table(sweep: SweepResult) -> Table:
    """Shares of the parameters, largest first."""
    shares = sweep.importance or {}
    return Table(("parameter", "share (%)"), "lr", tuple((name, percent(value)) for name, value in shares.items()))


def finalists_table(summary: SweepSummary, confirmed: Confirmation) -> Table:
    """What the search said of each finalist, and what the strong evaluation says."""
    metrics = confirmed.metrics
    judged = (metrics.selecting, metrics.test_robust, metrics.test_clean, *metrics.further)
    accuracies = tuple(dict.fromkeys(judged))
    header = ("finalist", "in the search", *(title_of(metric) for metric in accuracies), "done", "reliable")
    rows = tuple(
        (
            arm.name,
            measured(summary.metrics.selecting, confirmed.searched[arm.name]),
            *(measured_with_interval(metric, arm.estimates.get(metric)) for metric in accuracies),
            f"{arm.done}/{len(arm.trials)}",
            "no" if arm.name in confirmed.unreliable else "yes",
        )
        for arm in summary.arms
    )
    return Table(header, "lr" + "r" * len(accuracies) + "rr", rows, tuple(_arm_tone(summary, a) for a in summary.arms))


def transfer_table(arms: Sequence[ArmResult], metric: Metric, names: Sequence[str]) -> Table:
    """A number on every further data set, by arm, and its mean over the sets."""
    rows = tuple(
        (
            arm.name,
            mean_with_interval(arm.estimates.get(str(metric.transferred()))),
            *(percent(_mean(arm, str(metric.transferred(name)))) for name in names),
        )
        for arm in arms
    )
    return Table(("arm", "mean of the sets", *names), "l" + "r" * (1 + len(names)), rows)


def failures_table(summary: Summary) -> Table:
    """Why trials have no result."""
    header = ("arm", "seed", "phase", "trial", "MLflow run", "failure", "message", "message")
    rows = tuple(
        (
            failure.arm,
            str(failure.seed),
            failure.phase,
            failure.trial_id[:8],
            failure.mlflow_run_id or ABSENT,
            failure.kind.replace("_", " "),
            failure.message,
            next(iter(failure.message.splitlines()), ""),
        )
        for failure in summary.failures
    )
    tones = tuple[Tone, ...]("bad" for _ in rows)
    return Table(header, "lrlcclll", rows, tones, "aaaafaft", tuple(range(len(rows)))[:TOP])


def _short_id(trial: TrialResult) -> str:
    return ABSENT if trial.trial_id is None else trial.trial_id[:8]


def _status_tone(trial: TrialResult) -> Tone:
    return "bad" if trial.unreliable else STATUS_TONES.get(trial.status, "bad")
