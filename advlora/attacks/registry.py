"""Which function runs which attack: every config class has one runner, found by the class alone.

A runner registers itself where it is defined, `@on_classes(Pgd)`; the package imports all of its modules, so that a new
attack needs no entry anywhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from advlora.config.base import Section

Runner = TypeVar("Runner", bound=Callable[..., Any])


class Registry:
    """Config class -> runner, of one situation in which attacks are run."""

    def __init__(self, situation: str) -> None:
        """Starts empty; `situation` names it in messages."""
        self.situation = situation
        self._runners: dict[type[Section], Callable[..., Any]] = {}

    def __call__(self, *configs: type[Section]) -> Callable[[Runner], Runner]:
        """Registers the decorated function as the runner of these classes."""

        def register(runner: Runner) -> Runner:
            self._runners |= dict.fromkeys(configs, runner)
            return runner

        return register

    def __contains__(self, config: type[Section]) -> bool:
        """Whether a class has a runner."""
        return config in self._runners

    def __getitem__(self, attack: Section) -> Callable[..., Any]:
        """Returns what runs an attack.

        Raises:
            LookupError: If nothing does.
        """
        if type(attack) not in self._runners:
            raise LookupError(f"{type(attack).__name__} has no runner {self.situation}")
        return self._runners[type(attack)]


in_training = Registry("in training")
"""Runners `(attack, batch) -> attacked images`; see `training.Batch`."""
on_classes = Registry("on classes")
"""Runners `(case, attack, restart) -> (B,)`, which images withstand one run; see `case.Case`."""
on_captions = Registry("on captions")
"""Runners `(attacker, attack, images, positions, streams) -> (images, captions)`; see `evaluation.attackers`."""
