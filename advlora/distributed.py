"""The few collective operations that training needs, over `torch.distributed`; with one process they do nothing.

Gradients are summed explicitly after the backward pass instead of by `DistributedDataParallel`: attacks run the bare
model several times per step, a worker may hold no sample of the last batch, and a fixed layout makes a continued
training equal to an uninterrupted one bit for bit (DDP regroups its buckets after the first step).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

Value = TypeVar("Value")
Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Group:
    """The processes of one trial."""

    rank: int = 0
    world_size: int = 1

    @classmethod
    def current(cls) -> Group:
        """Returns the group that `torch.distributed` was initialised with, or a single process."""
        if not (dist.is_available() and dist.is_initialized()):
            return SOLO
        return cls(dist.get_rank(), dist.get_world_size())

    def sum(self, tensor: Tensor) -> Tensor:
        """Returns the elementwise sum over all processes; every process gets it.

        Args:
            tensor: Same shape everywhere; on the GPU where the backend is nccl.
        """
        if self.world_size == 1:
            return tensor
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    def sum_named(self, tensors: Mapping[Name, Tensor]) -> dict[Name, Tensor]:
        """Returns the elementwise sums over all processes by name, in one reduction; every process gets them.

        Args:
            tensors: Same names in the same order and same shapes everywhere; bools or small integers, which keep their
                type. Of all processes, at most one may have a true in the same place.
        """
        if self.world_size == 1:
            return dict(tensors)
        # Not every backend adds int8 or bool; float32 is exact for what these types hold.
        total = self.sum(torch.cat([tensor.flatten().float() for tensor in tensors.values()]))
        parts = torch.split(total, [tensor.numel() for tensor in tensors.values()])
        return {
            name: part.view_as(tensor).to(tensor.dtype)
            for (name, tensor), part in zip(tensors.items(), parts, strict=True)
        }

    def broadcast(self, value: Value) -> Value:
        """Returns the small picklable value of process 0."""
        if self.world_size == 1:
            return value
        box: list[Any] = [value]
        dist.broadcast_object_list(box, src=0)
        received: Value = box[0]
        return received

    def gather(self, value: Value) -> list[Value]:
        """Returns the small picklable values of all processes, in order; every process gets them."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Blocks until every process has called it."""
        if self.world_size > 1:
            dist.barrier()

    def share(self, indices: Tensor) -> Tensor:
        """Returns the part of `indices` that this process works on."""
        return indices[self.rank :: self.world_size]

    def batches(self, samples: int, size: int) -> tuple[Tensor, ...]:
        """Returns the positions of every batch that this process works on, out of all batches of so many samples."""
        return torch.split(torch.arange(samples), size)[self.rank :: self.world_size]

    def rows(self, own: Tensor, batch: int) -> Tensor:
        """Returns the rows of a whole batch, in its order; gradients flow back to the process that holds a row.

        Args:
            own: `(b, D)`, the rows of this process's `share`; a process without a share passes a placeholder.
            batch: Number of rows B over all processes.

        Returns:
            `(B, D)`, the same everywhere. Where each process differentiates its part of a sum, each gets the gradient
            of the whole sum.
        """
        if self.world_size == 1:
            return own
        gathered: Tensor = _Rows.apply(own, batch, self)  # type: ignore[no-untyped-call]  # torch
        return gathered

    @torch.no_grad()
    def sum_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Replaces every gradient by its sum over all processes; a missing one is zero, also on a single process.

        An optimiser skips a parameter without a gradient, but decays one whose gradient is zero.
        """
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        if self.world_size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        total = self.sum(torch.cat([gradient.flatten() for gradient in gradients]))
        for gradient, part in zip(gradients, torch.split(total, [g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))


class _Rows(torch.autograd.Function):
    """Gathers rows that were dealt round-robin."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, batch: int, group: Group) -> Tensor:
        ctx.group, ctx.shape = group, own.shape
        ctx.counted = len(group.share(torch.arange(batch)))
        part = own.new_zeros(ceil(batch / group.world_size), *own.shape[1:])  # padded: all parts need one shape
        part[: ctx.counted] = own[: ctx.counted]
        parts = [torch.empty_like(part) for _ in range(group.world_size)]
        dist.all_gather(parts, part)
        return torch.stack(parts, dim=1).flatten(0, 1)[:batch]  # (rows, processes, D) -> (B, D), undoing the deal

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        whole = ctx.group.sum(gradients[0].contiguous())
        own = whole.new_zeros(ctx.shape)
        own[: ctx.counted] = ctx.group.share(whole)
        return own, None, None


SOLO = Group()
"""One process."""
