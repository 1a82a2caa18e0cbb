"""What an ablation found: its table of arms, effects of the factors, comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from advlora_platform.analysis.arms import ArmResult, arm_result
from advlora_platform.analysis.best import best_arm
from advlora_platform.analysis.contrasts import Contrast, answers_by_name, verdicts_by_name
from advlora_platform.analysis.effects import comparisons, interactions, main_effects, reference_of
from advlora_platform.analysis.metrics import metrics_of
from advlora_platform.analysis.summary import STATUSES, Summary, failures, named_after
from advlora_platform.analysis.terms import Terms
from advlora_platform.analysis.trials import count
from advlora_platform.search.plan import ArmPlan
from advlora_platform.study.ablation import AblationStudy
from advlora_platform.study.edges import Edge, edges
from advlora_platform.study.ledger import Record
from advlora_platform.study.outcomes import Shelf


@dataclass(frozen=True)
class AblationSummary(Summary):
    """What an ablation found so far; `arms` is its table.

    Attributes:
        reference: The arm that others are compared with.
        effects: Main effects of the factors on test robust and test clean accuracy, and on what else is reported.
        interactions: How factors change each other's effect; empty unless the design is a factorial.
        aliases: Effects that a fraction measures as one, such as `a = b x c`; empty in other designs.
        comparisons: Every arm against the reference.
        edges: Arm -> tuned key -> which edge of what could be chosen its value lies at.
        mode: Whether nuisance values are `retuned` in every arm, `held` at those of the reference, or `both`; None
            where nothing is tuned.
        held: The arms with nuisance values held at those of the reference, where the study wants both.
        held_comparisons: Each of them against the reference.
        margin: Smallest difference that matters, in points.
        test_set: Whether the test examples are a `sample`, or the whole `population` of interest.
        scatter: Whether arms have their `own` scatter over seeds or a `common` one.
        examples: Number of test examples that the intervals take for a sample; 0 where they cover seeds alone.
    """

    reference: str
    margin: float
    test_set: str
    scatter: str
    examples: int
    effects: tuple[Contrast, ...]
    interactions: tuple[Contrast, ...]
    aliases: tuple[str, ...]
    comparisons: tuple[Contrast, ...]
    edges: dict[str, dict[str, Edge]]
    mode: str | None
    held: tuple[ArmResult, ...]
    held_comparisons: tuple[Contrast, ...]

    @property
    def every_arm(self) -> tuple[ArmResult, ...]:
        """The arms of the table, and those with held values."""
        return (*self.arms, *self.held)

    @property
    def complete(self) -> bool:
        """Whether every trial ended."""
        return super().complete and self.counts["missing"] == 0

    def verdicts(self) -> dict[str, str]:
        """Returns the verdicts on effects, interactions and comparisons."""
        return {
            **verdicts_by_name("effect", self.effects),
            **verdicts_by_name("interaction", self.interactions),
            **verdicts_by_name("comparison", (*self.comparisons, *self.held_comparisons)),
        }

    def answers(self) -> dict[str, float]:
        """Returns effects, interactions and comparisons with their certainty."""
        return {
            **answers_by_name("effect", self.effects),
            **answers_by_name("interaction", self.interactions),
            **answers_by_name("comparison", (*self.comparisons, *self.held_comparisons)),
        }


def summarise_ablation(
    study: AblationStudy,
    plans: Sequence[ArmPlan],
    records: Sequence[Record],
    identity: Mapping[str, Any],
    runs: Mapping[str, str],
    outcomes: Shelf | None = None,
) -> AblationSummary:
    """Evaluates what is known of an ablation.

    Args:
        study: The study.
        plans: The trials of every arm.
        records: What became of the trials, oldest first; those of other trials are not looked at.
        identity: `study_id`, `data_hash`, the number of `classes`, and `provenance`.
        runs: Trial id -> MLflow run id.
        outcomes: What became of every example; None where that is not known.
    """
    known = {record.trial_id: record for record in records}
    metrics, level = metrics_of(study.protocol, report=study.report, transfer=study.transfer_names), study.confidence
    outcomes = outcomes if study.test_set == "sample" and outcomes is not None else Shelf()
    judged, factors = (metrics.test_robust, metrics.test_clean, *metrics.further), study.effects
    crossed = factors if study.design == "factorial" else {}
    arms, held = (
        tuple(arm_result(p, study, study.seeds, level, known, runs, outcomes) for p in plans if p.again == again)
        for again in (False, True)
    )
    reference = reference_of(arms)
    terms = Terms(
        seeds=len(study.seeds),
        alpha=1 - level,
        margin=study.margin / 100,
        samples=study.protocol.samples,
        outcomes=outcomes,
        alike=arms if study.scatter == "common" else (),
    )
    trials = [trial for arm in (*arms, *held) for trial in arm.trials]
    opposed = (reference, *held) if held else ()
    # Arms may share a trial; it failed once.
    own = dict.fromkeys(trial.id for plan in plans for trial in (*plan.tuning, *plan.trials))
    return AblationSummary(
        **named_after(study, identity),
        metrics=metrics,
        confidence=level,
        seeds=study.seeds,
        counts={"planned": len(trials), **count((trial.status for trial in trials), (*STATUSES, "missing"))},
        arms=arms,
        best=best_arm(arms, metrics.selecting, known, identity["data_hash"], level, study.limits()),
        failures=failures([known[trial] for trial in own if trial in known], runs),
        reference=reference.name,
        margin=study.margin,
        test_set=study.test_set,
        scatter=study.scatter,
        examples=_examples(arms, metrics.test_robust),
        effects=tuple(e for metric in judged for e in main_effects(arms, factors, metric, terms)),
        interactions=tuple(e for metric in judged for e in interactions(arms, crossed, metric, terms)),
        aliases=study.aliases,
        comparisons=tuple(e for metric in judged for e in comparisons(arms, reference, metric, terms)),
        edges={arm.name: found for arm in arms if (found := _edges(study, arm))},
        mode=None if study.tuning is None else study.tuning.mode,
        held=held,
        held_comparisons=tuple(e for metric in judged for e in comparisons(opposed, reference, metric, terms)),
    )


def _edges(study: AblationStudy, arm: ArmResult) -> dict[str, Edge]:
    """Returns the edges that the choice of an arm lies at; those of a held value are the reference's."""
    own = study.tuning is not None and arm.tuning["planned"]
    return edges(study.tuning.parameters, arm.tuned or {}) if study.tuning is not None and own else {}


def _examples(arms: Sequence[ArmResult], metric: str) -> int:
    """Returns the number of examples that every interval covers; 0 where one does not."""
    found = [arm.estimates[metric].variance for arm in arms if metric in arm.estimates]
    return min((variance.examples for variance in found if variance is not None), default=0)
