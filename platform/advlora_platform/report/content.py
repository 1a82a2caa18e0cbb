"""From the summary of a study to the `Document` that every format renders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from advlora.metrics import Metric
from advlora_platform.analysis import AblationSummary, Confirmation, Metrics, Summary, SweepResult, SweepSummary
from advlora_platform.analysis.words import plural
from advlora_platform.report.document import Document, Finding, Part, Picture
from advlora_platform.report.findings import ablation_findings, confirmation_sentences, sweep_findings
from advlora_platform.report.tables import (
    arms_table,
    contrasts_table,
    curve_table,
    failures_table,
    finalists_table,
    held_table,
    importance_table,
    pareto_table,
    transfer_table,
    trials_table,
    trials_table_by_arm,
    tuned_table,
    uncertainty_table,
)


def ablation_document(summary: AblationSummary) -> Document:
    """Builds the report of an ablation."""
    return _document(summary, ablation_findings(summary), _ablation(summary))


def sweep_document(summary: SweepSummary) -> Document:
    """Builds the report of a sweep."""
    confirmed = summary.confirmation
    protocol = f"{summary.protocol}; finalists are confirmed under {confirmed.protocol}" if confirmed else ""
    return _document(summary, sweep_findings(summary), _sweep(summary, summary.sweep), protocol)


def _document(summary: Summary, findings: Sequence[Finding], parts: Iterable[Part], protocol: str = "") -> Document:
    return Document(
        title=summary.study,
        kind=summary.kind,
        description=summary.description,
        protocol=protocol or summary.protocol,
        facts=tuple(_facts(summary)),
        findings=tuple(findings),
        parts=(*parts, *_failures(summary)),
        progress=_progress(summary),
    )


def _progress(summary: Summary) -> str:
    counts = summary.counts
    rest = [f"{counts[name]} {name}" for name in ("stopped", "running", "failed", "missing") if counts[name]]
    return ", ".join([f"{counts['done']} of {counts['planned']} done", *rest])


def _facts(summary: Summary) -> Iterator[tuple[str, str]]:
    """Yields where the numbers come from."""
    source = summary.provenance
    yield "study id", summary.study_id
    yield "data hash", summary.data_hash
    for key in ("commit", "code_version", "python", "machine"):
        if source.get(key):
            dirty = " with uncommitted changes" if key == "commit" and source.get("dirty") else ""
            yield key.replace("_", " "), f"{source[key]}{dirty}"
    if source.get("versions"):
        yield "versions", ", ".join(f"{name} {version}" for name, version in source["versions"].items())


def _asked(summary: AblationSummary) -> tuple[str, ...]:
    """Returns the metrics whose differences matter most: a terminal leaves the others to the report."""
    return (summary.metrics.test_robust, *summary.metrics.further)


def _ablation(summary: AblationSummary) -> Iterator[Part]:
    level = f"{100 * summary.confidence:g} %"
    seeds = plural(len(summary.seeds), "seed")
    yield Part(
        "Arms",
        (
            f"Mean over {seeds} with the {level} interval of each; accuracies are measured under {summary.protocol}. "
            "'Trained' is the share of trained parameters; 'FLOP' counts the floating-point operations of a "
            "training, attack and texts included. The selected arm is marked.",
        ),
        Picture("arms", f"Accuracy on test by arm: mean with {level} interval, small dots are seeds."),
        arms_table(summary),
        brief=True,
    )
    if summary.effects:
        yield from _effects(summary, level)
    if summary.comparisons:
        yield Part(
            f"Every arm against {summary.reference}",
            (f"Paired by seed and image. {_together(summary, level)}",),
            table=contrasts_table(summary.comparisons, "arm", _asked(summary)),
            brief=True,
        )
    if summary.held:
        yield Part(
            "Nuisance parameters retuned or held",
            (
                f"Test robust accuracy (%) with the values that each arm was tuned for, and with those of "
                f"{summary.reference} in every arm; differences in points. An arm whose verdict differs owes it to "
                "what was tuned.",
            ),
            table=held_table(summary),
            brief=True,
        )
    if summary.examples:
        yield _uncertainty(summary)
    if summary.metrics.curve:
        yield Part(
            "Epsilon of the attack",
            ("Robust accuracy on test (%) by epsilon.",),
            Picture("curve", "Robust accuracy on test against epsilon, mean over seeds."),
            curve_table(summary),
        )
    yield from _transfer(summary, summary.metrics)
    yield from _details(summary)


def _transfer(summary: Summary, metrics: Metrics) -> Iterator[Part]:
    """Yields accuracies on the further data sets."""
    if not metrics.transfer:
        return
    for name, metric in (("robust", metrics.test_robust), ("clean", metrics.test_clean)):
        yield Part(
            f"Transfer: {name} accuracy",
            (
                f"Accuracy (%) on {plural(len(metrics.transfer), 'further data set')}, on which nothing was trained or "
                "selected, measured as on test: mean over seeds. The interval is of the mean of the sets, which are "
                "taken as given.",
            ),
            table=transfer_table(summary.arms, Metric.parse(metric), metrics.transfer),
        )


def _together(summary: AblationSummary, level: str) -> str:
    """Says what the intervals and verdicts of a table mean."""
    alike = " All arms are taken to scatter alike over seeds." if summary.scatter == "common" else ""
    return (
        f"All intervals of one metric hold together with a chance of {level}, and the verdicts follow from them. The "
        f"margin is {plural(summary.margin, 'point')}.{alike}"
    )


def _uncertainty(summary: AblationSummary) -> Part:
    answers = (*summary.effects, *summary.interactions, *summary.comparisons)
    asked = [answer for answer in answers if answer.metric in _asked(summary)]
    return Part(
        "Where the uncertainty comes from",
        (
            "Shares of the variance of each difference: from the choice of seeds, from the choice of test images, and "
            "from what is particular to a seed on an image, which both make smaller. On the right, what would find a "
            "difference as large as the one seen, or as the margin if that is larger, in four of five studies.",
        ),
        table=uncertainty_table(asked),
    )


def _effects(summary: AblationSummary, level: str) -> Iterator[Part]:
    yield Part(
        "Effects of the factors",
        (
            "Each effect is the mean difference that switching the factor on makes, over all pairs of arms that differ "
            "in this factor only (and in what was tuned inside them), paired by seed and image. A pair that a seed "
            f"lacks is filled in by least squares. {_together(summary, level)}",
            *_aliased(summary),
        ),
        Picture(
            "effects",
            f"Effects on test in points, with simultaneous {level} intervals; hollow marks are not resolved, the band "
            "is the margin.",
        ),
        contrasts_table(summary.effects, "factor"),
        brief=True,
    )
    if summary.interactions:
        yield Part(
            "Interactions",
            ("By how much one factor changes the effect of the other: positive means better together.",),
            table=contrasts_table(summary.interactions, "factors", _asked(summary)),
            brief=True,
        )


def _aliased(summary: AblationSummary) -> Iterator[str]:
    """Says what a fraction of all combinations cannot tell apart."""
    if summary.aliases:
        yield (
            "The arms are a fraction of all combinations: an effect is the mean of the arms with the factor on less "
            f"that of the others, and what stands on both sides here is measured as one: {'; '.join(summary.aliases)}."
        )


def _details(summary: AblationSummary) -> Iterator[Part]:
    tuned = tuned_table(summary)
    if tuned is not None:
        text = "Every arm that is tuned gets the same number of tries, judged on val."
        yield Part("Tuned inside each arm", (text,), table=tuned)
    yield Part("Every trial", table=trials_table_by_arm(summary), folded=True)


def _sweep(summary: SweepSummary, sweep: SweepResult) -> Iterator[Part]:
    if summary.confirmation is not None and summary.arms:
        yield _confirmation(summary, summary.confirmation)
        yield from _transfer(summary, summary.confirmation.metrics)
    goals = ", ".join(f"{metric} ({goal})" for metric, goal in sweep.objectives.items())
    yield Part(
        "Trials",
        (f"Objectives: {goals}. Best final value first. Accuracies are measured under {summary.protocol}.",),
        Picture("history", "Final values of the first objective in the order of the trials, and the best so far."),
        trials_table(summary, sweep),
        brief=True,
    )
    if sweep.pareto is not None:
        yield Part(
            "Pareto front",
            ("No other finished trial is as good in every objective and better in one.",),
            Picture("pareto", "Finished trials by the first two objectives; the front is marked."),
            pareto_table(sweep),
            brief=True,
        )
    yield _importance(sweep)


def _confirmation(summary: SweepSummary, confirmed: Confirmation) -> Part:
    return Part(
        "Confirmation",
        (
            f"The finalists, trained again with {plural(len(summary.seeds), 'fresh seed')} and measured under "
            f"{confirmed.protocol}. The winner is chosen on val and quoted on test.",
            *confirmation_sentences(confirmed),
        ),
        Picture("confirmation", "What the search said of each finalist against what was confirmed, mean over seeds."),
        finalists_table(summary, confirmed),
        brief=True,
    )


def _importance(sweep: SweepResult) -> Part:
    done = sum(trial.status == "done" for trial in sweep.trials)
    if sweep.importance is None or sweep.good is None:
        return Part("Importance", (f"Not stated: {plural(done, 'finished trial')} are too few to tell.",))
    return Part(
        "Importance",
        (
            f"How much each parameter tells the best {100 * sweep.good:.0f} % of {plural(done, 'finished trial')} from "
            "all of them, as shares of 100 % (PED-ANOVA). With few trials this is a hint, not a measurement.",
        ),
        Picture("importance", "Share of each parameter."),
        importance_table(sweep),
        brief=True,
    )


def _failures(summary: Summary) -> Iterator[Part]:
    if summary.failures:
        yield Part("Failures", table=failures_table(summary), brief=True)
