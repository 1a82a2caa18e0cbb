"""Tiny transformers models, one workbench for all tests, short trials on it, and one trial that is finished."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from tests.advlora.short_trials import FINISHED, PROTOCOL, trial

if TYPE_CHECKING:
    from advlora.config import ModelConfig
    from advlora.training.trainer import EpochReport
    from advlora.training.workbench import Workbench


@pytest.fixture(scope="session")
def bench() -> Workbench:
    from advlora.training.workbench import Workbench

    return Workbench()


@pytest.fixture(scope="session")
def run(bench: Workbench) -> Callable[..., list[EpochReport]]:
    from advlora.training.trainer import fine_tune

    def run(values: Mapping[str, Any] | None = None, protocol=PROTOCOL, **options) -> list[EpochReport]:
        return list(fine_tune(trial(values), protocol, **{"bench": bench, **options}))

    return run


@pytest.fixture(scope="session")
def finished(run) -> list[EpochReport]:
    return run(FINISHED, test=True)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], ModelConfig]:
    """Family of transformers -> the configuration of its tiny model."""
    from tests.advlora.tiny_transformers import written

    return cache(lambda family: written(family, tmp_path_factory.mktemp(family)))


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny masked language model, as a protocol names it."""
    from tests.advlora.tiny_transformers import masked_words

    return masked_words(tmp_path_factory.mktemp("bert"))
