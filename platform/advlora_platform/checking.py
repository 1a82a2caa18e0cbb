"""Everything about a study that can be known to be wrong before any compute starts."""

from __future__ import annotations

from collections.abc import Iterable

from advlora.check import check_evaluation, check_trial, forget_files
from advlora.config import TrialConfig, parse, vary
from advlora.errors import ConfigError, did_you_mean
from advlora_platform.search.plan import tuning_of
from advlora_platform.search.space import (
    FIXED,
    check_keys,
    check_space,
    check_values,
    grid_problems,
    no_key,
    with_conditions,
)
from advlora_platform.study.arms import arms
from advlora_platform.study.spec import (
    AblationStudy,
    Study,
    SweepStudy,
    TuningConfig,
    extremes,
    metric_names,
    reportable,
)


def check_study(study: Study) -> None:
    """Checks keys, values, model, data and adapter of every arm.

    Raises:
        ConfigError: With one sentence per problem; all that were found.
    """
    forget_files()
    problems = _ablation_problems(study) if isinstance(study, AblationStudy) else _sweep_problems(study)
    unique = list(dict.fromkeys(problems))
    if unique:
        raise ConfigError(unique)


def _ablation_problems(study: AblationStudy) -> list[str]:
    problems = list(_key_problems(study))
    if problems:
        return problems
    if "seed" in study.base:
        problems.append("base.seed is not allowed in an ablation; list the seeds under 'seeds'")
    for arm in arms(study):
        try:
            config = parse(TrialConfig, vary(TrialConfig, study.base, arm.values))
        except ConfigError as error:
            problems += [f"arm '{arm.name}': {problem}" for problem in error.problems]
        else:
            problems += [f"arm '{arm.name}': {problem}" for problem in _evaluated(study, config)]
    if study.tuning is not None and not problems:
        problems += _tuning_problems(study, study.tuning)
    return _common(problems)


def _evaluated(study: Study, config: TrialConfig) -> list[str]:
    """Checks a trial, and whether the study's protocols fit it."""
    problems = [*check_trial(config), *check_evaluation(config, study.protocol)]
    if isinstance(study, SweepStudy) and study.confirm is not None:
        problems += [f"confirm.{problem}" for problem in check_evaluation(config, study.confirm.protocol)]
    return problems


def _tuning_problems(study: AblationStudy, tuning: TuningConfig) -> Iterable[str]:
    """Checks the nuisance parameters of every arm, each of which leaves out what its methods do not take."""
    where = "tuning.parameters"
    if problems := check_keys(tuning.parameters, where):
        return problems
    if tuning.sampler == "grid" and (problems := grid_problems(tuning.parameters, tuning.trials, "tuning")):
        return problems
    used: set[str] = set()
    for arm in arms(study):
        own = tuning_of(study, arm)
        parameters = {} if own is None else own.parameters
        used |= set(parameters)
        found = check_values(parameters, vary(TrialConfig, study.base, arm.values), where)
        problems += [f"arm '{arm.name}': {problem}" for problem in found]
    idle = [key for key in tuning.parameters if key not in used]
    return problems + [f"{where}: '{key}' is tuned in no arm, because none takes it or all set it" for key in idle]


def _common(problems: list[str]) -> list[str]:
    """Says a problem that every arm shares once, without the arm."""
    bare = [problem.partition("': ")[2] if problem.startswith("arm '") else problem for problem in problems]
    return [text if bare.count(text) > 1 else problem for text, problem in zip(bare, problems, strict=True)]


def _key_problems(study: AblationStudy) -> Iterable[str]:
    keys = [(f"factors.{name}.key", factor.key) for name, factor in study.factors.items()]
    keys += [(f"arms.{name}", key) for name, values in study.arms.items() for key in values]
    for where, key in keys:
        head = key.partition(".")[0]
        if head in FIXED:
            yield f"{where}: '{key}' must not differ between arms: {FIXED[head]}"
        elif problem := no_key(key):
            yield f"{where}: {problem}"
    for metric in study.report:
        if metric not in reportable(study):
            yield f"report: '{metric}' is not a metric of a trial{did_you_mean(metric, reportable(study))}"
    names = [arm.name for arm in arms(study)]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"arms.{name}: the factors' design already has an arm of this name"


def _sweep_problems(study: SweepStudy) -> list[str]:
    problems = check_space(study.parameters, study.points, study.base, "parameters")
    problems += _objective_problems(study)
    if not problems and study.search.sampler == "grid":
        problems += grid_problems(study.parameters, study.search.trials, "search")
    if problems:
        return problems
    everywhere = _evaluated(study, parse(TrialConfig, study.base))
    for key, parameter in study.parameters.items():
        for value in extremes(parameter):
            values = with_conditions(study.parameters, {key: value})
            config = parse(TrialConfig, vary(TrialConfig, study.base, values or {}))
            own = [problem for problem in _evaluated(study, config) if problem not in everywhere]
            problems += [f"parameters.{key} = {value}: {problem}" for problem in own]
    return everywhere + problems


def _objective_problems(study: SweepStudy) -> Iterable[str]:
    search = study.search
    if search.sampler == "cma-es" and len(search.objectives) > 1:
        yield "search.sampler: 'cma-es' optimises one objective only; use nsga-ii, tpe or gp for several"
    known = metric_names(study)
    for objective in search.objectives:
        if objective not in {"robust", "clean"} and objective not in known:
            nearest = did_you_mean(objective, ["robust", "clean", *known])
            yield f"search.objectives: '{objective}' is not a metric of a trial{nearest}"
    if search.scheduler.kind == "asha" and study.protocol.interval == 0:
        yield (
            "protocol.interval: 0 evaluates trials at the end only, so ASHA has nothing to stop them by; "
            "set protocol.interval=1, or search.scheduler.kind=none"
        )
