"""Checks that tell whether a robust accuracy can be trusted."""

from advlora.evaluation.guards.battery import guard_forwards, run_guards, run_retrieval_guards, same_as_merged
from advlora.evaluation.guards.finding import GuardFinding, guard_metrics, unreliable
from advlora.evaluation.guards.overfitting import OverfittingFinding, check_overfitting
from advlora.evaluation.guards.recall import similarity

__all__ = [
    "GuardFinding",
    "OverfittingFinding",
    "check_overfitting",
    "guard_forwards",
    "guard_metrics",
    "run_guards",
    "run_retrieval_guards",
    "same_as_merged",
    "similarity",
    "unreliable",
]
