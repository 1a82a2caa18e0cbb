"""Keys and values that were renamed: an old one is refused with the new one's name."""

from __future__ import annotations

from typing import Any

KEYS: dict[str, str] = {
    "adapter.start": "adapter.init",
    "adapter.also": "adapter.modules_to_save",
    "adapter.clustering.enabled": "adapter.init: kmeans, or gaussian where it was off",
    "adapter.clustering.algorithm": "adapter.init: kmeans, spherical_kmeans or random_clusters",
    **{
        f"adapter.clustering.{key}": f"adapter.init.{key}"
        for key in ("clusters", "axis", "iterations", "restarts", "seed")
    },
    "adapter.clustering": "adapter.init: kmeans, or gaussian where it was off",
    **{
        f"adapter.adalora.{key}": f"adapter.{key}"
        for key in ("initial_rank", "warmup", "final", "interval", "orthogonality")
    },
    "adapter.adalora": "its keys beside adapter.kind: adalora",
    "attack.overfitting.check": "attack.overfitting.enabled",
}
"""Ending of an old key's path -> what to write instead."""

VALUES: dict[tuple[str, str], str] = {
    ("adapter.init.kind", "svd"): "pissa",
    ("adapter.init.kind", "minor_svd"): "milora",
}
"""Ending of a key's path and an old value -> the new value."""


def renamed_key(key: str) -> str | None:
    """Returns what replaces an old key, as a clause; None for a key that never was one.

    Args:
        key: Dotted path, with or without the section that it lies in, such as `base.adapter.start`.
    """
    for old, new in KEYS.items():
        if f".{key}".endswith(f".{old}") or f".{old}." in f".{key}":
            return f"write {new}"
    return None


def renamed_value(key: str, value: Any) -> str | None:
    """Returns the sentence that refuses an old value; None for one that never was allowed."""
    for (path, old), new in VALUES.items():
        if old == value and f".{key}".endswith(f".{path}"):
            return f"{key}: {value!r} is not allowed; write {new!r}"
    return None
