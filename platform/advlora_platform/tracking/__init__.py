"""The one writer of MLflow: study > arm > trial, continued by every launch."""

from advlora_platform.tracking.evaluations import EvaluationLog
from advlora_platform.tracking.store import database_file, on_server, public_uri, tracking_uri, ui_command
from advlora_platform.tracking.tracker import MlflowTracker, known_runs

__all__ = [
    "EvaluationLog",
    "MlflowTracker",
    "database_file",
    "known_runs",
    "on_server",
    "public_uri",
    "tracking_uri",
    "ui_command",
]
