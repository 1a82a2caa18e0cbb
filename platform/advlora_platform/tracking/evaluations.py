"""Measurements in MLflow: one run each, in an experiment of their own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from advlora_platform.tracking.experiments import LONGEST_NAME, METRICS_PER_CALL, metric_name, obtain_experiment
from advlora_platform.tracking.store import explained, open_store, tracking_uri

if TYPE_CHECKING:
    from advlora_platform.measure import EvaluationRecord

EXPERIMENT = "evaluations"
DESCRIPTION = "Models measured with `advlora evaluate`: one run per measurement, its record among the artefacts."


class EvaluationLog:
    """The store, opened before anything is computed."""

    def __init__(self) -> None:
        """Opens the store.

        Raises:
            UserError: If it cannot be used.
        """
        self._uri = tracking_uri()
        self._client = open_store(self._uri)
        with explained(self._uri):
            self._experiment = obtain_experiment(
                self._client, EXPERIMENT, DESCRIPTION, self._uri, "restore it there, or use --no-track"
            )

    def log(self, record: EvaluationRecord, file: Path) -> str:
        """Logs a finished measurement and returns its run id.

        Args:
            record: What was measured.
            file: Where it was written; becomes an artefact.

        Raises:
            UserError: If the store fails.
        """
        from mlflow.entities import Metric, Param

        with explained(self._uri):
            run = self._client.create_run(self._experiment, tags=_tags(record), run_name=_name(record))
            run_id, now = str(run.info.run_id), run.info.start_time
            metrics = [Metric(metric_name(key), value, now, 0) for key, value in _metrics(record).items()]
            params = [Param(key, value) for key, value in _params(record).items()]
            self._client.log_batch(run_id, params=params)
            for begin in range(0, len(metrics), METRICS_PER_CALL):
                self._client.log_batch(run_id, metrics=metrics[begin : begin + METRICS_PER_CALL])
            self._client.log_artifact(run_id, str(file))
            self._client.set_terminated(run_id)
        return run_id


def _name(record: EvaluationRecord) -> str:
    return f"{record.model.name} · {record.protocol_name}"[:LONGEST_NAME]


def _metrics(record: EvaluationRecord) -> dict[str, float]:
    """Returns the record's metrics, its seconds, and `attack/<label>:<epsilon>`."""
    attacks = {
        f"attack/{label}:{epsilon}": value
        for epsilon, rows in record.accuracies.items()
        for label, value in rows.items()
    }
    return {**record.metrics, **attacks, "cost/seconds": record.seconds}


def _params(record: EvaluationRecord) -> dict[str, str]:
    data = {f"data.{key}": str(value) for key, value in record.data.model_dump().items()}
    return {"model": record.model.name, **data, "protocol": record.protocol_name}


def _tags(record: EvaluationRecord) -> dict[str, str]:
    """Returns what runs are searched by; `advlora.evaluated_run` is the trial that trained the model."""
    known = {
        "advlora.kind": "evaluation",
        "advlora.protocol_hash": record.protocol_hash,
        "advlora.data_hash": record.data.hash,
        "advlora.weights": record.model.weights,
        "advlora.evaluated_run": record.model.run,
        "advlora.trial": record.model.trial_id,
        "guard/unreliable": record.unreliable or "",
        "mlflow.source.name": "advlora",
        "mlflow.note.content": record.protocol_text,
    }
    return {key: value for key, value in known.items() if value is not None}
