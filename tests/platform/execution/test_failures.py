from __future__ import annotations

import pytest
import torch

from advlora.errors import DataError, Diverged
from advlora_platform.execution.failures import classify

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (Diverged("loss nan"), "diverged", "loss nan"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried\nto allocate"),
            "out_of_memory",
            "CUDA out of memory. Tried",
        ),
        (MemoryError(), "out_of_memory", "out of memory"),
        (DataError(["shard a", "shard b"]), "user_error", "shard a; shard b"),
        (ZeroDivisionError("by zero"), "error", "ZeroDivisionError: by zero"),
    ],
)
def test_every_exception_has_a_class_and_a_sentence(error, kind, said):
    failure = classify(error)
    assert (failure.kind, failure.message) == (kind, said)
