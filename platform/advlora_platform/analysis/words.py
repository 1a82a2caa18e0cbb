"""The few words that findings and reports share."""

from __future__ import annotations


def plural(number: int, noun: str) -> str:
    """Writes `1 seed` or `3 seeds`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
