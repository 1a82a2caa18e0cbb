"""Random numbers that belong to a name, not to the state of the process.

What is drawn once per run takes a `generator`. What is drawn for every example takes a `Streams`: a counter-based
generator in tensor arithmetic. Number c of a stream is a hash of the stream's key and c, so a batch is drawn at once,
on its device, without a word from the host.

The hash is SplitMix64 (Steele, Lea & Flood 2014, with the constants of Vigna's splitmix64.c, which passes BigCrush):
output c of the key k is mix(k + (c + 1) gamma). Philox-4x32-10 (Salmon et al. 2011) would do as well, at several times
the cost (docs/performance.md): in tensor arithmetic each of its ten rounds takes a dozen passes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod, sqrt

import torch
from torch import Tensor

GAMMA = 0x9E3779B97F4A7C15 - 2**64
"""The step of the counter: 2^64 over the golden ratio, as are the others a signed 64-bit number."""
FACTORS = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)
"""The two multipliers of the finaliser."""
CACHED, BOUNDED = 2**15, 2**24
"""How many 64-bit numbers are mixed at once: on the CPU what its cache keeps, elsewhere what bounds the memory."""


def seed_of(*key: int | str) -> int:
    """Derives a seed from a name such as `(seed, "order", epoch)`."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(*key: int | str) -> torch.Generator:
    """Returns a CPU generator seeded by a name; the same name draws the same numbers on every device and machine."""
    return torch.Generator().manual_seed(seed_of(*key))


@dataclass(frozen=True)
class Streams:
    """Random numbers of a batch, one stream per example.

    A stream does not advance: asked again, it gives the same numbers. Other numbers come from a `branch`.

    Attributes:
        keys: `(B,)`, int64, on the device that draws.
    """

    keys: Tensor

    @classmethod
    def of(cls, *name: int | str, samples: Tensor) -> Streams:
        """Returns the streams of samples under a name such as `(seed, "attack", epoch)`.

        Args:
            name: What the numbers are drawn for.
            samples: `(B,)`, int64; its device is that of the draws.
        """
        return cls(torch.full_like(samples, seed_of(*name))).branch(samples)

    def branch(self, number: int | Tensor) -> Streams:
        """Returns other streams, one per stream and number; a tensor `(B,)` holds a number for each."""
        numbers = torch.zeros_like(self.keys) + number
        # The key is mixed first, or the keys of the branches would be what the stream itself draws.
        return Streams(_mixed(_mixed(self.keys.clone()) + (numbers + 1) * GAMMA))

    def __getitem__(self, places: Tensor | slice) -> Streams:
        """Returns the streams at `places`, a tensor `(B',)` or a slice."""
        return Streams(self.keys[places])

    def __len__(self) -> int:
        """Returns how many there are."""
        return len(self.keys)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Draws from [0, 1) in 2^24 steps, or from that many between two bounds; bit for bit the same on every device.

        Returns:
            `(B, *shape)`, float32.
        """

        def fill(bits: Tensor, drawn: Tensor) -> None:
            # Integers of 24 bits are exact in float32; a product and a sum are rounded alike everywhere.
            drawn.copy_(bits >> 8).mul_((high - low) * 2**-24).add_((low + high) / 2)

        return self._drawn(shape, fill)

    def normal(self, *shape: int) -> Tensor:
        """Draws from the standard normal distribution, by the inverse of its distribution function.

        Devices round the inverse differently in the last bits of float64, and so hardly ever in those of float32.

        Returns:
            `(B, *shape)`, float32.
        """

        def fill(bits: Tensor, drawn: Tensor) -> None:
            # The middles of 2^24 equal parts of (-1, 1): never the ends, whose inverse is not finite.
            middles = (bits >> 8).double().mul_(2**-23).add_(2**-24)
            drawn.copy_(middles.erfinv_().mul_(sqrt(2)))

        return self._drawn(shape, fill)

    def _drawn(self, shape: tuple[int, ...], fill: Callable[[Tensor, Tensor], None]) -> Tensor:
        """Returns `(B, *shape)`; `fill` turns random int32 `(b, w, 2)` of a block into numbers, its other argument."""
        count, device = prod(shape), self.keys.device
        words = (count + 1) // 2  # of 64 bits
        drawn = torch.empty(len(self), words, 2, device=device)  # two halves of a word
        steps = torch.arange(1, words + 1, device=device) * GAMMA  # (W,)
        for rows, columns in self._blocks(words):
            mixed = _mixed(self.keys[rows, None] + steps[columns])  # (b, 1) + (w,) -> (b, w)
            fill(mixed.view(torch.int32).view(*mixed.shape, 2), drawn[rows, columns])  # (b, 2 w) -> (b, w, 2)
        return drawn.flatten(1)[:, :count].reshape(len(self), *shape)

    def _blocks(self, words: int) -> Iterator[tuple[slice, slice]]:
        """Yields rows and columns that cover `(B, words)`, block by block."""
        block = CACHED if self.keys.device.type == "cpu" else BOUNDED
        height = max(block // words, 1)
        for row in range(0, len(self), height):
            for column in range(0, words, block):
                yield slice(row, row + height), slice(column, column + block)


def _mixed(state: Tensor) -> Tensor:
    """Applies the finaliser in place, and returns `state`."""
    scratch = torch.empty_like(state)
    _fold(state, 30, scratch).mul_(FACTORS[0])
    _fold(state, 27, scratch).mul_(FACTORS[1])
    return _fold(state, 31, scratch)


def _fold(state: Tensor, shift: int, scratch: Tensor) -> Tensor:
    """Combines `state` in place with itself, shifted to the right."""
    torch.bitwise_right_shift(state, shift, out=scratch)
    # torch's shift repeats the sign, the algorithm's fills with zeros.
    return state.bitwise_xor_(scratch.bitwise_and_(2 ** (64 - shift) - 1))
