"""From a record to what MLflow holds of it."""

from __future__ import annotations

from advlora_platform.measure.record import EvaluationRecord
from advlora_platform.tracking.evaluations import Measured


def tracked(record: EvaluationRecord) -> Measured:
    """Returns what is tracked of a record: all but the outcomes of single examples."""
    return Measured(
        model=record.model.name,
        weights=record.model.weights,
        data={key: str(value) for key, value in record.data.model_dump(exclude_none=True).items()},
        protocol=record.protocol_name,
        protocol_hash=record.protocol_hash,
        protocol_text=record.protocol_text,
        metrics=_metrics(record),
        unreliable=record.unreliable,
        run=record.model.run,
        trial_id=record.model.trial_id,
    )


def _metrics(record: EvaluationRecord) -> dict[str, float]:
    """Returns the record's metrics, its seconds, and `attack/<label>:<epsilon>`."""
    attacks = {
        f"attack/{label}:{epsilon}": value
        for epsilon, rows in record.accuracies.items()
        for label, value in rows.items()
    }
    return {**record.metrics, **attacks, "cost/seconds": record.seconds}
