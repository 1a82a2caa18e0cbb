"""`adapt`: makes the part of a model that a trial trains trainable, and keeps track of it."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from advlora.adapters.alignment import penalised
from advlora.adapters.check import check_adapter
from advlora.config import AdapterConfig
from advlora.errors import ModelError
from advlora.models.base import VisionLanguageModel
from advlora.models.roles import target_layers

PROJECTION = "proj"


class AdaptedModel:
    """A model of which some parameters are trained.

    Attributes:
        model: Embeds images through the adapter.
        config: The adapter's configuration.
        trainable_fraction: Trainable parameters relative to those of the vision tower before adaptation.
    """

    def __init__(self, model: VisionLanguageModel, config: AdapterConfig, tower_size: int) -> None:
        """Use `adapt`."""
        self.model, self.config = model, config
        self.trainable_fraction = self.trainable / tower_size

    def parameters(self) -> list[nn.Parameter]:
        """Returns the trainable parameters, always in the same order."""
        return list(self._trained().values())

    @property
    def trainable(self) -> int:
        """Number of trainable parameters."""
        return sum(parameter.numel() for parameter in self.parameters())

    @cached_property
    def layers(self) -> dict[str, Any]:
        """Name inside the vision tower -> `AdvLoraLinear`; empty unless the kind is `lora`."""
        if self.config.kind != "lora":
            return {}
        from advlora.adapters.variant import AdvLoraLinear

        return {name: layer for name, layer in self.model.vision.named_modules() if isinstance(layer, AdvLoraLinear)}

    def penalty(self) -> Tensor | None:
        """Returns the weighted alignment penalty, mean over the matrices; None where there is none.

        lambda * mean ||s B diag(alpha) A - T||_F^2 / ||T||_F^2, where T is the clustered weight S C, or the
        pretrained weight where clustering is off.
        """
        if not penalised(self.config):
            return None
        return self.config.alignment.weight * torch.stack([layer.misfit() for layer in self.layers.values()]).mean()

    def state(self) -> dict[str, Tensor]:
        """Returns detached CPU clones of all that was trained, and of the start that the export needs."""
        live = {**self._trained(), **dict(self.model.vision.named_buffers())}
        return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in live.items()}

    @torch.no_grad()
    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restores what `state` returned, bit for bit.

        Raises:
            ValueError: If the state belongs to another configuration.
        """
        live = {**self._trained(), **dict(self.model.vision.named_buffers())}
        shapes = {name: tensor.shape for name, tensor in live.items()}
        if shapes != {name: tensor.shape for name, tensor in state.items()}:
            raise ValueError("the state does not belong to an adapter of this configuration")
        for name, layer in self.layers.items():
            layer.move_anchor(state[f"{name}.anchors.default.b0"], state[f"{name}.anchors.default.a0"])
        for name, tensor in live.items():
            tensor.copy_(state[name])

    def _trained(self) -> dict[str, nn.Parameter]:
        return {name: value for name, value in self.model.vision.named_parameters() if value.requires_grad}


def adapt(
    model: VisionLanguageModel, config: AdapterConfig, seed: int, cache_dir: Path | None = None
) -> AdaptedModel:  # fmt: skip
    """Makes a model trainable, in place.

    Whatever the start, the function is the pretrained one until the first step. (With dropout, which only the low-rank
    branch sees, that holds in eval mode, and in training mode on average.)

    Args:
        model: A copy that nobody else uses; frozen.
        config: What is trained, and how it starts.
        seed: Of the random parts of the start.
        cache_dir: Where k-means and SVD are shared between processes; None for this process only.

    Raises:
        ModelError: If the model lacks the layers that the configuration names, or they are too small for it.
    """
    size = sum(parameter.numel() for parameter in model.vision.parameters())
    model.requires_grad_(False)
    if config.kind == "lora":
        _inject(model.vision, config, seed, cache_dir)
    elif config.kind == "full":
        model.vision.requires_grad_(True)
    elif config.kind == "linear_probe":
        _projection(model.vision).requires_grad_(True)
    return AdaptedModel(model, config, size)


def _inject(vision: nn.Module, config: AdapterConfig, seed: int, cache_dir: Path | None) -> None:
    from peft import inject_adapter_in_model

    from advlora.adapters.variant import AdvLoraConfig

    targets = target_layers(vision, config.target)
    shapes = {name: (layer.out_features, layer.in_features) for name, layer in targets.items()}
    if problems := check_adapter(config, shapes):
        raise ModelError(problems)
    with torch.random.fork_rng(devices=[]):  # PEFT draws a start, which the variant replaces
        inject_adapter_in_model(AdvLoraConfig.of(config, list(targets), seed, cache_dir), vision)
    vision.train(vision.training)  # also the new layers


def _projection(vision: nn.Module) -> nn.Parameter:
    projection = getattr(vision, PROJECTION, None)
    if not isinstance(projection, nn.Parameter):
        raise ModelError(f"adapter.kind 'linear_probe' trains the final projection '{PROJECTION}', "
                         f"which the vision tower {type(vision).__name__} does not have")  # fmt: skip
    return projection
