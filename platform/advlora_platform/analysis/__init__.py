"""From records to answers: intervals, effects, comparisons."""

from advlora_platform.analysis.arms import ArmResult, ArmTrial
from advlora_platform.analysis.best import Best
from advlora_platform.analysis.confirmation import Confirmation
from advlora_platform.analysis.contrasts import Contrast
from advlora_platform.analysis.estimates import Estimate
from advlora_platform.analysis.metrics import Metrics
from advlora_platform.analysis.summary import FailedTrial, Summary, summarise
from advlora_platform.analysis.sweeps import SweepResult, TrialResult

__all__ = [
    "ArmResult",
    "ArmTrial",
    "Best",
    "Confirmation",
    "Contrast",
    "Estimate",
    "FailedTrial",
    "Metrics",
    "Summary",
    "SweepResult",
    "TrialResult",
    "summarise",
]
