"""`advlora train`: one configuration as a study of one arm and one seed, then the verified exports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advlora.adapters import save_trained
from advlora.config import TrialConfig, parse, parse_override, read_yaml, vary, with_values
from advlora.errors import ConfigError, UserError
from advlora_platform.checking import check_study
from advlora_platform.execution.states import rebuild
from advlora_platform.export import BestFile, check_reproduction
from advlora_platform.launch import launch
from advlora_platform.study import Ledger, Observer, StudyFolder, trials_of
from advlora_platform.study.ablation import AblationStudy

ARM = "trained"


@dataclass(frozen=True)
class TrainingResult:
    """What a training run left."""

    metrics: dict[str, float]
    verdict: str
    """Whether the recorded validation metrics came out again."""
    exports: dict[str, str]
    """`adapter` (stock PEFT, where the method is low-rank) and `merged` (stock open_clip)."""

    def to_json(self) -> dict[str, Any]:
        """Returns the result as plain data."""
        return {"metrics": self.metrics, "verdict": self.verdict, "exports": self.exports}


def read_training(file: Path, overrides: Iterable[str] = ()) -> BestFile:
    """Reads what to train; overrides drop the comparison with recorded metrics.

    Raises:
        ConfigError: With every problem of the file.
    """
    content = read_yaml(file)
    changes = dict(parse_override(text) for text in overrides)
    if changes:
        trial = {key: value for key, value in changes.items() if key.partition(".")[0] in TrialConfig.model_fields}
        content = with_values(content, {key: value for key, value in changes.items() if key not in trial})
        if trial:
            content["trial"] = vary(TrialConfig, content.get("trial", {}), trial)
        content.pop("provenance", None)
    if "trial" not in content:
        raise ConfigError(f"{file}: key 'trial' is required (a file written by 'advlora export' has it)")
    content.setdefault("name", file.stem)
    return parse(BestFile, content)


def training_study(training: BestFile) -> AblationStudy:
    """Returns a training as a study of one arm and one seed."""
    return AblationStudy(
        name=training.name,
        description="One configuration, trained.",
        base=training.trial.model_dump(exclude={"seed"}),
        protocol=training.protocol,
        seeds=(training.trial.seed,),
        arms={ARM: {}},
    )


def train(training: BestFile, out: Path, listeners: Sequence[Observer] = (), *, wait: bool = False) -> TrainingResult:
    """Trains on Ray through the same path as a study and writes the exports into the study folder.

    Raises:
        UserError: If the configuration is impossible, or training failed.
    """
    study = training_study(training)
    check_study(study)
    launch(study, out, listeners, wait=wait)
    trial = trials_of(study).trial(ARM, training.trial.seed, {}, "ablate")
    folder = StudyFolder(out.resolve())
    record = Ledger(folder).record(trial.id)
    if record is None or record.status != "done":
        reason = record.failure.message if record is not None and record.failure is not None else "no result"
        raise UserError(f"training '{training.name}' failed: {reason}")
    exports = _export(trial.config, folder, trial.id)
    return TrainingResult(record.metrics, _verdict(training, record.metrics), exports)


def _export(config: TrialConfig, folder: StudyFolder, trial_id: str) -> dict[str, str]:
    trained, samples = rebuild(config, folder.trial(trial_id))
    paths = save_trained(trained, config.model, config.adapter, folder.path / "model", samples)
    return {label: str(path) for label, path in paths.items()}


def _verdict(training: BestFile, metrics: dict[str, float]) -> str:
    if not training.provenance.get("metrics"):
        return "no recorded metrics to compare with"
    differences = check_reproduction(training, metrics)
    if not differences:
        return "reproduced: every validation metric equals the recorded one exactly"
    listed = ", ".join(
        f"{name} {before:.6g} -> {'missing' if now is None else format(now, '.6g')}"
        for name, (before, now) in differences.items()
    )
    return f"not reproduced exactly (recorded -> now): {listed}"
