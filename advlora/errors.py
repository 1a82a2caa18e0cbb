"""Errors the user can fix; each is one clear sentence per problem, shown without a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something in the input is wrong. The command line prints `problems` and exits with code 2.

    Attributes:
        problems: One sentence each; all that were found, not just the first.
    """

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems: list[str] = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))

    def __reduce__(self) -> tuple[type[UserError], tuple[list[str]]]:
        return (type(self), (self.problems,))


class ConfigError(UserError):
    """A configuration key or value is not allowed."""


class DataError(UserError):
    """A data set is missing, incomplete or damaged."""


class ModelError(UserError):
    """A model is unknown, or its weights cannot be found or read."""


class NotFinite(ModelError):
    """What is measured on a model is not a finite number."""


class Diverged(RuntimeError):
    """Training reached a loss that is not finite."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns `"; did you mean 'x'?"` for the nearest known name, or an empty string."""
    nearest = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{nearest[0]}'?" if nearest else ""


def first_line(error: Exception) -> str:
    """Returns the beginning of an error's message, fit for one sentence."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
