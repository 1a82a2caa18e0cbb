"""Checks that tell whether a robust accuracy can be trusted."""

from advlora.guards.battery import examine_guards, guard_forwards
from advlora.guards.finding import GuardFinding, guard_metrics, unreliable
from advlora.guards.overfitting import OverfittingFinding, check_overfitting, switched, watched

__all__ = [
    "GuardFinding",
    "OverfittingFinding",
    "check_overfitting",
    "examine_guards",
    "guard_forwards",
    "guard_metrics",
    "switched",
    "unreliable",
    "watched",
]
