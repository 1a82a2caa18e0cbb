"""The order of a split: its first N samples are a fixed draw, as many of every class as N allows."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

VERSION = "drawn"
"""Goes into the identity of a data set whose order is drawn; another rule needs another name."""


def drawn(labels: Sequence[int], names: Sequence[str]) -> list[int]:
    """Draws an order in rounds: a round takes one sample of every class that has some left.

    Both the order within a class and that within a round follow the hashes of the names, so they look random and are
    the same everywhere, and a file that is added moves no other within its class.

    Args:
        labels: Class of each sample; equal for all where there are no classes.
        names: Name of each sample.

    Returns:
        The positions of all samples in the drawn order.
    """
    keys = [hashlib.blake2b(name.encode(), digest_size=16).digest() for name in names]
    shuffled = sorted(range(len(keys)), key=keys.__getitem__)
    taken: Counter[int] = Counter()
    rounds = [0] * len(keys)
    for place in shuffled:
        rounds[place] = taken[labels[place]]
        taken[labels[place]] += 1
    return sorted(shuffled, key=rounds.__getitem__)  # stable: by hash within a round
