"""Other weights in the place of a layer's own, for a time.

A parameter is replaced, never changed: what a graph built before has saved stays as it was, no sum has to be undone,
and a tensor that other layers share is not touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def holding(layers: Mapping[str, Any], weights: Mapping[str, nn.Parameter], *, merged: bool) -> Iterator[None]:
    """Inside, PEFT layers have other base weights.

    Args:
        layers: Name -> PEFT layer.
        weights: Name -> base weight, of the layers that are meant.
        merged: Whether these weights hold the update already, so that PEFT leaves the factors out.
    """
    before = {name: (layers[name].get_base_layer().weight, layers[name].merged_adapters) for name in weights}
    try:
        for name, weight in weights.items():
            _put(layers[name], weight, ["default"] if merged else [])
        yield
    finally:
        for name, (weight, adapters) in before.items():
            _put(layers[name], weight, adapters)


@contextmanager
def without_gradient(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Inside, no parameter requires a gradient, so that a graph saves nothing for one."""
    before = [(parameter, parameter.requires_grad) for parameter in parameters]
    try:
        for parameter, _ in before:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter, required in before:
            parameter.requires_grad_(required)


def _put(layer: Any, weight: nn.Parameter, adapters: list[str]) -> None:
    layer.get_base_layer().weight = weight
    layer.merged_adapters = adapters
