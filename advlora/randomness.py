"""Random numbers that belong to a name, not to the state of the process."""

from __future__ import annotations

import hashlib

import torch


def seed_of(*key: int | str) -> int:
    """Derives a seed from a name such as `(seed, "attack", epoch, sample)`."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(*key: int | str) -> torch.Generator:
    """Returns a CPU generator seeded by a name; the same name draws the same numbers on every device and machine."""
    return torch.Generator().manual_seed(seed_of(*key))
