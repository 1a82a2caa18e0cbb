"""`best.yaml`: the configuration that a study recommends, with all that is needed to get its numbers again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from advlora.config import EvaluationProtocol, TrialConfig, dump_yaml, parse, read_yaml
from advlora.config.base import Section, Text
from advlora.metrics import Metric
from advlora_platform.analysis import Recommendation, Summary
from advlora_platform.study.folder import StudyFolder, write_text
from advlora_platform.study.spec import Study

_HEADER = "# {what} of study '{study}'. Train it with: advlora train {file}\n"
_NO_NAME = re.compile(r"[^\w.-]+")
"""What does not belong into the name of a folder."""


class BestFile(Section):
    """The content of `best.yaml`; `advlora train` also takes a file with `trial` alone."""

    name: Text = "trained"
    trial: TrialConfig
    protocol: EvaluationProtocol = EvaluationProtocol()
    provenance: dict[str, Any] = Field(default_factory=dict)


def write_best(study: Study, summary: Summary, folder: StudyFolder) -> None:
    """Writes `best.yaml` into the study folder when the study has a best configuration."""
    if summary.best is not None:
        write_text(folder.best, best_text(study, summary, summary.best, "best.yaml"))


def best_text(study: Study, summary: Summary, chosen: Recommendation, file: str) -> str:
    """Returns the content of a file that `advlora train` runs; `file` is its name, for the reader."""
    is_best = chosen is summary.best
    best = {
        "name": f"{study.name}-{'best' if is_best else _NO_NAME.sub('-', chosen.arm)}",
        "trial": chosen.config,
        "protocol": study.reported_protocol.model_dump(mode="json"),
        "provenance": {
            "study": study.name,
            "study_id": summary.study_id,
            "selected": chosen.reason,
            "arm": chosen.arm,
            "trial": chosen.trial_id,
            "mlflow_run_id": chosen.mlflow_run_id,
            "seeds": list(chosen.seeds),
            "data_hash": chosen.data_hash,
            "metrics": chosen.metrics,
            **summary.provenance,
        },
    }
    what = "The best configuration" if is_best else f"Arm '{chosen.arm}'"
    return _HEADER.format(what=what, study=study.name, file=file) + dump_yaml(best)


def read_best(path: Path) -> BestFile:
    """Reads a file that `advlora train` runs.

    Raises:
        ConfigError: With every problem of the file.
    """
    return parse(BestFile, read_yaml(path))


def check_reproduction(best: BestFile, metrics: Mapping[str, float]) -> dict[str, tuple[float, float | None]]:
    """Compares validation metrics with those that the study recorded.

    Returns:
        The metrics that differ: name -> (recorded, now, None where it is missing now).
            Empty when every number is the same.
    """
    metrics_then: dict[str, float] = best.provenance.get("metrics", {})
    recorded = {key: value for key, value in metrics_then.items() if Metric.parse(key).split == "val"}
    return {key: (value, metrics.get(key)) for key, value in recorded.items() if metrics.get(key) != value}
