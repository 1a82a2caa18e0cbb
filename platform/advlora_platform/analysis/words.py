"""The few words that findings and reports share."""

from __future__ import annotations


def plural(number: float, noun: str) -> str:
    """Writes `1 seed`, `3 seeds` or `0.5 points`."""
    return f"{number:.10g} {noun}" if number == 1 else f"{number:.10g} {noun}s"
