"""What a study says, in sentences: negative and unresolved answers as plainly as positive ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from advlora.metrics import Metric
from advlora_platform.analysis import AblationSummary, Confirmation, Contrast, Outcome, Summary, SweepSummary
from advlora_platform.analysis.words import plural
from advlora_platform.report.document import Finding, Tone
from advlora_platform.report.wording import amount_of_difference, points, status_of

TONES: dict[Outcome, Tone] = {
    "better": "good",
    "worse": "bad",
    "equivalent": "plain",
    "unresolved": "open",
    "unmeasured": "open",
}


def ablation_findings(summary: AblationSummary) -> tuple[Finding, ...]:
    """Returns the sentences at the top of the report of an ablation."""
    nothing = "no arm that is trained has all its trials done"
    return (
        *_answers(summary),
        *_choice(summary, nothing),
        Finding(ablation_selection(summary)),
        Finding(coverage(summary)),
        *_tuning(summary),
        *_holes(summary, _doubtful(summary)),
    )


def sweep_findings(summary: SweepSummary) -> tuple[Finding, ...]:
    """Returns the sentences at the top of the report of a sweep."""
    confirmed = summary.confirmation
    nothing = "no finalist is confirmed" if confirmed is not None and summary.arms else "no trial is finished"
    searched = [("trial", str(trial.number), trial.unreliable) for trial in summary.sweep.trials]
    sentences = () if confirmed is None else confirmation_sentences(confirmed)
    return (
        *_choice(summary, nothing),
        Finding(sweep_selection(summary)),
        *map(Finding, sentences),
        *_holes(summary, [*_doubtful(summary), *searched]),
    )


def _tuning(summary: AblationSummary) -> Iterator[Finding]:
    """Says where tuning may have been unfair: values held for all, or at the edge of what could be chosen."""
    if summary.mode == "held":
        text = (
            f"Nuisance parameters are held at the values of {summary.reference}; an arm that needs others looks worse."
        )
        yield Finding(text)
    found = [(key, edge, arm) for arm, values in summary.edges.items() for key, edge in values.items()]
    for key, edge in dict.fromkeys((key, edge) for key, edge, _ in found):
        names = ", ".join(arm for other, side, arm in found if (other, side) == (key, edge))
        place = f"{key} is the {edge} of its range in {names}"
        yield Finding(f"At the edge of what was tuned: {place}; advlora plan offers a wider one.", "open")


def tone_of(contrast: Contrast) -> Tone:
    """Returns how an answer is coloured."""
    return TONES[contrast.outcome]


def holes(summary: Summary) -> str | None:
    """Says which trials have no result; None if all have one."""
    left = {name: summary.counts[name] for name in ("missing", "running", "failed") if summary.counts[name]}
    if not left:
        return None
    parts = ", ".join(f"{number} {name}" for name, number in left.items())
    return f"of {plural(summary.counts['planned'], 'planned trial')}, {parts}."


def ablation_selection(summary: AblationSummary) -> str:
    """Says what was selected on what, and what the numbers are measured on."""
    return f"Selection used val ({summary.metrics.selecting}); the table shows test, which selected nothing."


def coverage(summary: AblationSummary) -> str:
    """Says which sources of chance the intervals cover."""
    if summary.examples:
        return f"Intervals cover the choice of seeds and of {plural(summary.examples, 'test image')}."
    if summary.test_set == "population":
        return "Intervals cover the choice of seeds alone: the study takes its test images for all that matter."
    return (
        "Intervals cover the choice of seeds alone, not of test images: what became of every image is not known for "
        "all trials."
    )


def sweep_selection(summary: SweepSummary) -> str:
    """Says what was selected on what, and what the numbers are measured on."""
    if summary.confirmation is not None:
        return (
            "The search ranks on val under the cheap evaluation; the winner is chosen among its finalists on val "
            "under the strong one, with fresh seeds, and quoted on test."
        )
    return (
        f"Trials are selected by {summary.metrics.selecting} and measured on val only, so the best value is "
        "optimistic: it is the largest of many. Measure the exported configuration on test before quoting it."
    )


def _answers(summary: AblationSummary) -> Iterator[Finding]:
    robust = [effect for effect in summary.effects if effect.metric == summary.metrics.test_robust]
    clean = {effect.name: effect for effect in summary.effects if effect.metric == summary.metrics.test_clean}
    if robust and not any(effect.outcome in ("better", "worse") for effect in robust):
        text = f"No factor is shown to make robust accuracy better or worse ({_names(robust)})."
        yield Finding(text, "open", brief=False)
    for effect in robust:
        text = f"{effect.name}: {_answer(effect, 'robust')}; {_answer(clean[effect.name], 'clean')}."
        yield Finding(text, tone_of(effect), brief=False)
    yield from _whole_method(summary)


def _whole_method(summary: AblationSummary) -> Iterator[Finding]:
    """Compares the arm with every factor on to the reference."""
    designed = [
        (sum(arm.factors.values()), arm.name) for arm in summary.arms if arm.factors and all(arm.factors.values())
    ]
    whole = max(designed, default=(0, None))[1]
    for comparison in summary.comparisons:
        if comparison.name == whole and comparison.metric == summary.metrics.test_robust:
            text = f"{whole} against {summary.reference}: {_answer(comparison, 'robust')}."
            yield Finding(text, tone_of(comparison), brief=False)


def _answer(contrast: Contrast, what: str) -> str:
    found = contrast.estimate
    if found is None:
        return f"{what} accuracy {contrast.verdict}"
    size = f"{points(found.mean)} points"
    if found.low is not None:
        size += f" ({points(found.low)} to {points(found.high)})"
    return f"{what} accuracy {size} over {plural(found.n, 'seed')}, {contrast.verdict}"


def confirmation_sentences(confirmed: Confirmation) -> tuple[str, ...]:
    """Says how well the cheap evaluation predicted the strong one."""
    sentences = []
    if confirmed.rank_correlation is not None:
        number = plural(len(confirmed.confirmed), "finalist")
        sentences.append(
            f"Rank correlation of the search with the confirmation over {number}: "
            f"{confirmed.rank_correlation:+.2f} (Spearman)."
        )
    found = confirmed.optimism
    if found is not None:
        shares = Metric.parse(confirmed.metrics.selecting).on_data
        write = points if shares else amount_of_difference
        interval = f" ({write(found.low)} to {write(found.high)})" if found.low is not None else ""
        size = f"{write(found.mean)} points{interval}" if shares else f"{write(found.mean)}{interval}"
        better = "more" if Metric.parse(confirmed.metrics.selecting).direction == "max" else "less"
        sentences.append(f"Optimism: the search promised {size} {better} for its leader than was confirmed.")
    if confirmed.unreliable:
        sentences.append(f"Not reliable, so they cannot win: {', '.join(confirmed.unreliable)}.")
    return tuple(sentences)


def _names(contrasts: Iterable[Contrast]) -> str:
    return ", ".join(contrast.name for contrast in contrasts)


def _choice(summary: Summary, nothing: str) -> Iterator[Finding]:
    if summary.best is None:
        yield Finding(f"No best configuration yet: {nothing}.", "open")
    else:
        yield Finding(f"Best: {summary.best.reason}.")


def _doubtful(summary: Summary) -> list[tuple[str, str, str]]:
    """Lists arm, trial, and why its numbers cannot be trusted; the reason is empty where they can."""
    return [(arm.name, f"seed {trial.seed}", trial.unreliable) for arm in summary.every_arm for trial in arm.trials]


def _holes(summary: Summary, doubtful: Iterable[tuple[str, str, str]]) -> Iterator[Finding]:
    text = holes(summary)
    if text is not None:
        yield Finding(f"Incomplete: {text}", "bad")
    for arm in summary.every_arm:
        waiting = [f"seed {trial.seed} {status_of(trial)}" for trial in arm.trials if trial.status != "done"]
        if waiting:
            yield Finding(f"{arm.name}: {', '.join(waiting)}.", "bad")
    for name, which, reason in doubtful:
        if reason:
            yield Finding(f"Not reliable, kept out of the best: {name} {which} ({reason}).", "bad")
    diverged = sum(failure.kind == "diverged" for failure in summary.failures)
    if diverged:
        yield Finding(f"{plural(diverged, 'trial')} diverged; that is a result, and is not tried again.", "bad")
