"""Which Fashion-MNIST images serve what; the ranges never overlap."""

TRAIN = slice(0, 10_000)
"""Adaptation (shipped), from the original training file."""

PRETRAINING = slice(10_000, 58_000)
"""Pretraining of the embedded model (not shipped), from the original training file."""

VAL = slice(58_000, 60_000)
"""Selection (shipped), from the original training file."""

TEST = slice(0, 5_000)
"""Reporting (shipped), from the original test file `t10k`."""
