"""Measurements in MLflow: one run each, in an experiment of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from advlora_platform.tracking.experiments import LONGEST_NAME, METRICS_PER_CALL, metric_name, obtain_experiment
from advlora_platform.tracking.store import explained, open_store, tracking_uri

EXPERIMENT = "evaluations"
DESCRIPTION = "Models measured with `advlora evaluate`: one run per measurement, its record among the artefacts."


@dataclass(frozen=True)
class Measured:
    """What MLflow holds of a measurement.

    Attributes:
        model: Name of the model.
        weights: Their hash.
        data: Which examples: name, hash, split, number.
        protocol: What the protocol is called.
        protocol_hash: Its version.
        protocol_text: The protocol in one sentence.
        metrics: By name, `attack/<label>:<epsilon>` among them.
        unreliable: Why the numbers cannot be trusted; None if no check failed.
        run: MLflow run of the trial that trained the model, if one did.
        trial_id: Identity of that trial.
    """

    model: str
    weights: str
    data: Mapping[str, str]
    protocol: str
    protocol_hash: str
    protocol_text: str
    metrics: Mapping[str, float]
    unreliable: str | None = None
    run: str | None = None
    trial_id: str | None = None


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

    def log(self, measured: Measured, file: Path) -> str:
        """Logs a finished measurement and returns its run id.

        Args:
            measured: What was measured.
            file: The record on disk; becomes an artefact.

        Raises:
            UserError: If the store fails.
        """
        from mlflow.entities import Metric, Param

        with explained(self._uri):
            run = self._client.create_run(self._experiment, tags=_tags(measured), run_name=_name(measured))
            run_id, now = str(run.info.run_id), run.info.start_time
            metrics = [Metric(metric_name(key), value, now, 0) for key, value in measured.metrics.items()]
            params = [Param(key, value) for key, value in _params(measured).items()]
            self._client.log_batch(run_id, params=params)
            for begin in range(0, len(metrics), METRICS_PER_CALL):
                self._client.log_batch(run_id, metrics=metrics[begin : begin + METRICS_PER_CALL])
            self._client.log_artifact(run_id, str(file))
            self._client.set_terminated(run_id)
        return run_id


def _name(measured: Measured) -> str:
    return f"{measured.model} · {measured.protocol}"[:LONGEST_NAME]


def _params(measured: Measured) -> dict[str, str]:
    data = {f"data.{key}": value for key, value in measured.data.items()}
    return {"model": measured.model, **data, "protocol": measured.protocol}


def _tags(measured: Measured) -> dict[str, str]:
    """Returns what runs are searched by; `advlora.evaluated_run` is the trial that trained the model."""
    known = {
        "advlora.kind": "evaluation",
        "advlora.protocol_hash": measured.protocol_hash,
        "advlora.data_hash": measured.data["hash"],
        "advlora.weights": measured.weights,
        "advlora.evaluated_run": measured.run,
        "advlora.trial": measured.trial_id,
        "guard/unreliable": measured.unreliable or "",
        "mlflow.source.name": "advlora",
        "mlflow.note.content": measured.protocol_text,
    }
    return {key: value for key, value in known.items() if value is not None}
