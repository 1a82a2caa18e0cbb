"""Refuses a study for everything that can be known to be wrong before any compute starts."""

from __future__ import annotations

from advlora.check import forget_files
from advlora.errors import ConfigError
from advlora_platform.kinds import kind_of
from advlora_platform.study.spec import Study


def check_study(study: Study) -> None:
    """Checks keys, values, model, data and adapter of every trial that a study can have.

    Raises:
        ConfigError: With one sentence per problem; all that were found.
    """
    forget_files()
    problems = list(dict.fromkeys(kind_of(study).problems()))
    if problems:
        raise ConfigError(problems)
