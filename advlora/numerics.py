"""How torch computes: in true float32 or in TF32, and only with kernels that give the same numbers again.

On Ampere and later GPUs torch rounds the inputs of convolutions to TF32 (10 bits of mantissa) unless it is told not to,
and the patch embedding is a convolution: the first thing that an attacked pixel meets. Without strict determinism the
backward pass of attention, which every attack takes, adds its parts in no fixed order.

torch has two interfaces for TF32, which must not be mixed: after a write by the newer one (`fp32_precision`) a reader
of the older one (`allow_tf32`) meets an error, in other libraries too. A write by the older one leaves both readable,
so this module, the only place that sets either, uses that.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils import deterministic as uninitialised

from advlora.config.trial import Precision


@contextmanager
def computing(precision: Precision = "fp32", *, deterministic: bool = True) -> Iterator[None]:
    """Sets how torch computes inside, and restores what was set before; may also decorate a function.

    Args:
        precision: `tf32` lets convolutions and matrix products on a GPU round their inputs to TF32. The others do not;
            autocast for `bf16` belongs to the passes themselves.
        deterministic: Whether an operation without a deterministic kernel is an error. If not, the fastest kernels run.
    """
    # cuBLAS reads this when it is first used; torch refuses its kernels in strict mode without it.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = _Settings.now()
    _Settings(
        convolutions=precision == "tf32",
        products=precision == "tf32",
        deterministic=deterministic,
        warn_only=False,
        fill=False,  # filling what is about to be overwritten is a kernel for every new tensor
        benchmark=False,
    ).set()
    try:
        yield
    finally:
        before.set()


class _Settings:
    """Everything of torch's global state that `computing` decides."""

    def __init__(
        self, *, convolutions: bool, products: bool, deterministic: bool, warn_only: bool, fill: bool, benchmark: bool
    ) -> None:
        self.convolutions, self.products = convolutions, products
        self.deterministic, self.warn_only = deterministic, warn_only
        self.fill, self.benchmark = fill, benchmark

    @classmethod
    def now(cls) -> _Settings:
        return cls(
            convolutions=torch.backends.cudnn.allow_tf32,
            products=torch.backends.cuda.matmul.allow_tf32,
            deterministic=torch.are_deterministic_algorithms_enabled(),
            warn_only=torch.is_deterministic_algorithms_warn_only_enabled(),
            fill=uninitialised.fill_uninitialized_memory,  # type: ignore[attr-defined]  # torch
            benchmark=torch.backends.cudnn.benchmark,
        )

    def set(self) -> None:
        torch.backends.cudnn.allow_tf32 = self.convolutions
        torch.backends.cuda.matmul.allow_tf32 = self.products
        torch.use_deterministic_algorithms(self.deterministic, warn_only=self.warn_only)
        uninitialised.fill_uninitialized_memory = self.fill  # type: ignore[attr-defined]  # torch
        torch.backends.cudnn.benchmark = self.benchmark
