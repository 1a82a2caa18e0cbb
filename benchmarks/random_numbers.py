"""Compares how the noise of a batch is drawn: streams, a torch.Generator per image, Philox, and torch.rand.

    python -m benchmarks.random_numbers --repeats 5

`torch.rand` is the floor: one generator for the whole batch, whose numbers depend on the batch. All of them take turns
within a repetition; the median counts. On the CPU the time is the processor's, for one thread; on CUDA it is the
clock's. There the generators draw on the CPU, as they have to, and their noise is copied.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from advlora.attacks import Threat
from advlora.randomness import BOUNDED, CACHED, Streams, generator

BATCH, EPSILON = 128, 8 / 255
KEY_STEPS, FACTORS, LOW = (0x9E3779B9, 0xBB67AE85), (0xD2511F53, 0xCD9E8D57), 2**32 - 1
KNOWN = [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
"""Philox-4x32-10 of zeros, from the known answers of Random123."""


def per_image(images: Tensor, norm: str) -> Tensor:
    """Draws from a ball with a torch.Generator per image."""
    shape = images.shape[1:]
    sources = [generator(0, "attack", 0, place) for place in range(len(images))]
    if norm == "linf":
        noise = [EPSILON * (2 * torch.rand(shape, generator=source) - 1) for source in sources]
        return torch.stack(noise).to(images.device)
    drawn = [(torch.randn(shape, generator=source), torch.rand((), generator=source)) for source in sources]
    noise = [EPSILON * share ** (1 / shape.numel()) * towards / towards.norm() for towards, share in drawn]
    return torch.stack(noise).to(images.device)


def philox(counters: Tensor, keys: Tensor) -> Tensor:
    """Returns Philox-4x32-10 (Salmon et al. 2011), four numbers of 32 bits each.

    Args:
        counters: `(n,)`.
        keys: `(B,)`.

    Returns:
        `(B, n, 4)`.
    """
    a = counters.expand(len(keys), -1)  # (B, n)
    b, c, d = (torch.zeros_like(a) for _ in range(3))
    low, high = keys[:, None] & LOW, (keys[:, None] >> 32) & LOW  # (B, 1)
    for _ in range(10):
        first, second = a * FACTORS[0], c * FACTORS[1]
        upper, lower = (first >> 32).bitwise_and_(LOW), (second >> 32).bitwise_and_(LOW)
        a, c = lower.bitwise_xor_(b).bitwise_xor_(low), upper.bitwise_xor_(d).bitwise_xor_(high)
        b, d = second.bitwise_and_(LOW), first.bitwise_and_(LOW)
        low, high = (low + KEY_STEPS[0]) & LOW, (high + KEY_STEPS[1]) & LOW
    return torch.stack([a, b, c, d], dim=-1)


def by_philox(images: Tensor) -> Tensor:
    """Draws from the L-inf ball with a Philox stream per image, in blocks as streams do."""
    counters = torch.arange(images[0].numel() // 4, device=images.device)
    height = max((CACHED if images.device.type == "cpu" else BOUNDED) // len(counters), 1)
    places, noise = torch.arange(len(images), device=images.device), torch.empty_like(images)
    for keys, into in zip(places.split(height), noise.split(height), strict=True):
        bits = philox(counters, keys).view(into.shape)  # (b, n, 4) -> (b, 3, H, W)
        into.copy_(bits >> 8).mul_(EPSILON * 2**-23).sub_(EPSILON)
    return noise


def ways(images: Tensor) -> dict[str, Callable[[], Tensor]]:
    """Returns name -> how to draw."""
    places = torch.arange(len(images), device=images.device)

    def streams(norm: str) -> Tensor:
        return Threat(norm, EPSILON).draw(images, Streams.of(0, "attack", 0, samples=places))  # type: ignore[arg-type]

    return {
        "L-inf, generator per image": lambda: per_image(images, "linf"),
        "L-inf, streams": lambda: streams("linf"),
        "L-inf, Philox": lambda: by_philox(images),
        "torch.rand": lambda: torch.rand(images.shape, device=images.device),
        "L2, generator per image": lambda: per_image(images, "l2"),
        "L2, streams": lambda: streams("l2"),
        "torch.randn": lambda: torch.randn(images.shape, device=images.device),
    }


def milliseconds(draw: Callable[[], Tensor], device: str) -> float:
    """Returns what a draw takes."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    begin = clock()
    if draw().is_cuda:
        torch.cuda.synchronize()
    return 1000 * (clock() - begin)


def main() -> None:
    """Prints a table per device."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="*", default=[224, 28])
    options = parser.parse_args()
    torch.set_num_threads(1)
    assert philox(*torch.zeros(2, 1, dtype=torch.int64))[0, 0].tolist() == KNOWN
    for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        for size in options.sizes:
            drawn = ways(torch.zeros(BATCH, 3, size, size, device=device))
            times: dict[str, list[float]] = {name: [] for name in drawn}
            for repeat in range(options.repeats + 1):
                for name, draw in drawn.items():
                    spent = milliseconds(draw, device)
                    times[name] += [spent] if repeat else []  # the first is a warm-up
            print(f"\n{BATCH} images of {size} px on {device}, ms:")
            for name, spent in times.items():
                print(f"| {name} | {median(spent):.3g} |", flush=True)


if __name__ == "__main__":
    main()
