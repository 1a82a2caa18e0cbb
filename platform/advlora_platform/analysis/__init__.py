"""From records to answers: intervals, effects, comparisons."""

from advlora_platform.analysis.arms import ArmResult, CellResult
from advlora_platform.analysis.best import Best
from advlora_platform.analysis.confirmation import Confirmation
from advlora_platform.analysis.contrasts import Contrast
from advlora_platform.analysis.estimates import Estimate
from advlora_platform.analysis.metrics import Metrics
from advlora_platform.analysis.summary import FailedCell, Summary, summarise
from advlora_platform.analysis.sweeps import SweepResult, TrialResult

__all__ = [
    "ArmResult",
    "Best",
    "CellResult",
    "Confirmation",
    "Contrast",
    "Estimate",
    "FailedCell",
    "Metrics",
    "Summary",
    "SweepResult",
    "TrialResult",
    "summarise",
]
