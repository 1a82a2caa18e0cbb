"""One workbench for all tests, a way to run short trials on it, and one trial that is finished."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pytest
from short_trials import FINISHED, PROTOCOL, trial

if TYPE_CHECKING:
    from advlora.trainer import EpochReport
    from advlora.workbench import Workbench


@pytest.fixture(scope="session")
def bench() -> Workbench:
    from advlora.workbench import Workbench

    return Workbench()


@pytest.fixture(scope="session")
def run(bench: Workbench) -> Callable[..., list[EpochReport]]:
    from advlora.trainer import fine_tune

    def run(values: Mapping[str, Any] | None = None, protocol=PROTOCOL, **options) -> list[EpochReport]:
        return list(fine_tune(trial(values), protocol, **{"bench": bench, **options}))

    return run


@pytest.fixture(scope="session")
def finished(run) -> list[EpochReport]:
    return run(FINISHED, test=True)
