"""From records to answers: intervals, effects, comparisons."""

from advlora_platform.analysis.ablation_summary import AblationSummary, summarise_ablation
from advlora_platform.analysis.arms import ArmResult
from advlora_platform.analysis.best import Recommendation, asked_arm
from advlora_platform.analysis.confirmation import Confirmation
from advlora_platform.analysis.contrasts import Contrast
from advlora_platform.analysis.estimates import Estimate
from advlora_platform.analysis.metrics import Metrics
from advlora_platform.analysis.summary import FailedTrial, Summary
from advlora_platform.analysis.sweep_summary import SweepSummary, summarise_sweep
from advlora_platform.analysis.sweeps import SweepResult
from advlora_platform.analysis.trials import TrialResult
from advlora_platform.analysis.verdicts import More, Outcome

__all__ = [
    "AblationSummary",
    "ArmResult",
    "Confirmation",
    "Contrast",
    "Estimate",
    "FailedTrial",
    "Metrics",
    "More",
    "Outcome",
    "Recommendation",
    "Summary",
    "SweepResult",
    "SweepSummary",
    "TrialResult",
    "asked_arm",
    "summarise_ablation",
    "summarise_sweep",
]
