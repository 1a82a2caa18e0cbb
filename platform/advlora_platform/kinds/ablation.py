"""An ablation: arms with seeds, tuned inside every arm where the study asks for it, and all of them reported."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from advlora.config import TrialConfig
from advlora.errors import ConfigError, did_you_mean
from advlora_platform.kinds.kind import StudyKind
from advlora_platform.kinds.workload import PlannedArm, trial_forwards
from advlora_platform.search.space import FIXED, check_keys, check_values, grid, grid_problems, no_key
from advlora_platform.study.ablation import AblationStudy, Arm, TuningConfig, arms, reference_arm
from advlora_platform.study.edges import Edge, edges, wider
from advlora_platform.study.folder import StudyFolder
from advlora_platform.study.ledger import Record
from advlora_platform.study.metrics import reportable
from advlora_platform.study.parameters import Space

if TYPE_CHECKING:
    from advlora_platform.analysis import AblationSummary
    from advlora_platform.report import Report
    from advlora_platform.search.contract import Stage, StageBuilder
    from advlora_platform.search.plan import ArmPlan, Scores
    from advlora_platform.study.outcomes import Shelf


class Ablation(StudyKind[AblationStudy, "AblationSummary"]):
    """A study that compares arms."""

    def problems(self) -> list[str]:
        """Checks the keys of factors and arms, and every arm as a trial."""
        study = self.study
        problems = [*_key_problems(study), *self.constraint_problems()]
        if problems:
            return problems
        if "seed" in study.base:
            problems.append("base.seed is not allowed in an ablation; list the seeds under 'seeds'")
        for name, values in study.arm_values.items():
            problems += [f"arm '{name}': {problem}" for problem in self._arm_problems(values)]
        problems += self.transfer_problems()
        if study.tuning is not None and not problems:
            problems += _tuning_problems(study, study.tuning)
        return _said_once(problems)

    def _arm_problems(self, values: Mapping[str, Any]) -> list[str]:
        try:
            return self.trial_problems(self.study.trial_with(values))
        except ConfigError as error:
            return error.problems

    def stages(self) -> tuple[StageBuilder, ...]:
        """All arms are one stage."""
        return (self._all_arms,)

    def _all_arms(self, records: Sequence[Record], folder: StudyFolder) -> Stage:
        from advlora_platform.search.ablation import PlanSearcher
        from advlora_platform.search.contract import Stage

        return Stage(PlanSearcher(self.study, self.trials, records))

    def reported(self, records: Sequence[Record]) -> list[ArmPlan]:
        """Every arm is reported, with every seed."""
        from advlora_platform.search.plan import plan_arms, scores_of

        return plan_arms(self.study, self.trials, scores_of(self.study, records))

    def planned(self, records: Sequence[Record]) -> list[PlannedArm]:
        """One line per arm."""
        from advlora_platform.search.plan import scores_of

        scores = scores_of(self.study, records)
        return [self._planned(plan, scores) for plan in self.reported(records)]

    def _planned(self, plan: ArmPlan, scores: Scores) -> PlannedArm:
        config, protocol = self.study.trial_with(plan.arm.values), self.study.protocol
        return PlannedArm(
            plan.arm.name,
            plan.budget,
            len(self.study.seeds),
            sum(trial.id in scores for trial in plan.trials),
            trial_forwards(config, protocol, test=True, transfer=self.trials.transfer),
            trial_forwards(config, protocol, test=False, guarded=False),
            sum(trial.id in scores for trial in plan.tuning),
        )

    def notes(self) -> list[str]:
        """How large a fraction is, and what it cannot tell apart; which combinations are left out."""
        study, arms_of_design = self.study, [arm for arm in arms(self.study) if arm.factors is not None]
        whole = math.prod(len(factor.options) for factor in study.factors.values())
        if study.design == "fractional":
            aliased = "; ".join(study.aliases) or "no effects of factors and pairs"
            return [
                f"{len(arms_of_design)} of {whole} combinations, resolution {study.resolution} or more; "
                f"measured as one: {aliased}."
            ]
        return (
            [f"{len(arms_of_design)} of {whole} combinations; 'exclude' leaves out the others."]
            if study.exclude
            else []
        )

    def wider(self, records: Sequence[Record]) -> dict[str, Any]:
        """Widens what is tuned where the choice of an arm lies at its edge, if every arm takes the new values."""
        tuning = self.study.tuning
        if tuning is None:
            return {}
        reached: dict[str, set[Edge]] = {}
        for plan in self.reported(records):
            for key, edge in edges(tuning.parameters, plan.tuned or {}).items():
                reached.setdefault(key, set()).add(edge)
        grown = {key: wider(tuning.parameters[key], sides) for key, sides in reached.items()}
        parameters = {key: parameter for key, parameter in grown.items() if parameter is not None}
        return self._widened(tuning, parameters) if parameters else {}

    def _widened(self, tuning: TuningConfig, parameters: Space) -> dict[str, Any]:
        space = {**tuning.parameters, **parameters}
        trials = len(grid(space)) if tuning.sampler == "grid" else tuning.trials
        changed = tuning.model_copy(update={"parameters": space, "trials": trials})
        if Ablation(self.study.model_copy(update={"tuning": changed})).problems():
            return {}
        shown = {key: space[key].model_dump(mode="json", exclude_defaults=True) for key in parameters}
        return {"parameters": shown, "trials": trials}

    def summarise(
        self,
        records: Sequence[Record],
        identity: Mapping[str, Any],
        runs: Mapping[str, str],
        outcomes: Shelf | None = None,
    ) -> AblationSummary:
        """Evaluates the arms."""
        from advlora_platform.analysis import summarise_ablation

        return summarise_ablation(self.study, self.reported(records), records, identity, runs, outcomes)

    def report(self, summary: AblationSummary) -> Report:
        """Arms, effects and comparisons."""
        from advlora_platform.report import ablation_report

        return ablation_report(summary)


def _key_problems(study: AblationStudy) -> Iterator[str]:
    keys = [
        (f"factors.{name}.levels.{level}" if factor.levels else f"factors.{name}.key", key)
        for name, factor in study.factors.items()
        for level, values in factor.options.items()
        for key in values
    ]
    keys = list(dict.fromkeys(keys))
    keys += [(f"arms.{name}", key) for name, values in study.arms.items() for key in values]
    for where, key in keys:
        head = key.partition(".")[0]
        if head in FIXED:
            yield f"{where}: '{key}' must not differ between arms: {FIXED[head]}"
        elif problem := no_key(key):
            yield f"{where}: {problem}"
    metrics = [str(metric) for metric in reportable(study.protocol, study.transfer_names)]
    for metric in study.report:
        if metric not in metrics:
            yield f"report: '{metric}' is not a metric of a trial{did_you_mean(metric, metrics)}"
    names = [arm.name for arm in arms(study)]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"arms.{name}: the factors' design already has an arm of this name"


def _tuning_problems(study: AblationStudy, tuning: TuningConfig) -> list[str]:
    """Checks the nuisance parameters of every arm, each of which leaves out what its methods do not take."""
    from advlora_platform.search.plan import tuning_of

    where = "tuning.parameters"
    if problems := check_keys(tuning.parameters, where):
        return problems
    if tuning.sampler == "grid" and (problems := grid_problems(tuning.parameters, tuning.trials, "tuning")):
        return problems
    used: set[str] = set()
    problems = []
    for arm in arms(study):
        own = tuning_of(study, arm)
        parameters = {} if own is None else own.parameters
        used |= set(parameters)
        found = check_values(parameters, partial(_with_arm, study, arm), where)
        problems += [f"arm '{arm.name}': {problem}" for problem in found]
    reference = reference_arm(study)
    if tuning.mode != "retuned" and tuning_of(study, reference) is None:
        problems.append(
            f"tuning.mode: '{tuning.mode}' holds the values of '{reference.name}', in which nothing is tuned"
        )
    idle = [key for key in tuning.parameters if key not in used]
    return problems + [f"{where}: '{key}' is tuned in no arm, because none takes it or all set it" for key in idle]


def _with_arm(study: AblationStudy, arm: Arm, values: Mapping[str, Any]) -> TrialConfig:
    return study.trial_with({**arm.values, **values})


def _said_once(problems: list[str]) -> list[str]:
    """Says a problem that several arms share without the arm, so that it can be said once."""
    bare = [problem.partition("': ")[2] if problem.startswith("arm '") else problem for problem in problems]
    return [text if bare.count(text) > 1 else problem for text, problem in zip(bare, problems, strict=True)]
