"""Everything that only a GPU can show; skipped elsewhere. `make gpu-check` runs it together with the benchmarks."""

from __future__ import annotations

import pytest
import torch

from advlora.training.workbench import Workbench
from tests.advlora.short_trials import evaluation


@pytest.fixture(autouse=True)
def cuda() -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("needs CUDA: torch sees no GPU here")
    return torch.device("cuda", 0)


@pytest.fixture(scope="session")
def bench() -> Workbench:
    return Workbench()


@pytest.fixture
def brief():
    """An evaluation of a few images by two attacks."""
    attacks = [{"kind": "pgd", "steps": 5}, {"kind": "apgd-ce", "steps": 10}]
    samples = {"val": 64, "test": 64}
    return evaluation(attacks=attacks, samples=samples, curve=(), epsilon=8 / 255, guards={"enabled": False})
