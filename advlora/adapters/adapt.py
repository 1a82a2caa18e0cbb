"""`adapt`: makes the part of a model that a trial trains trainable, and keeps track of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from advlora.adapters.check import check_adapter
from advlora.adapters.merging import holding, without_gradient
from advlora.adapters.methods import ALLOCATION, FACTOR, LowRankMethod, Method, method_of
from advlora.adapters.placement import layer_ranks
from advlora.config import AdapterConfig, LowRankAdapter
from advlora.errors import ModelError
from advlora.models.base import Tower, VisionLanguageModel
from advlora.models.registry import TEXT_PREFIX, tower_names
from advlora.randomness import seed_of


@dataclass(frozen=True)
class TrainedParameter:
    """A trainable parameter, and how an optimiser treats it.

    Attributes:
        parameter: Is changed in place.
        learning_rate_factor: Its learning rate, relative to the optimiser's.
        start: What weight decay pulls it towards, of its shape; None means zero.
    """

    parameter: nn.Parameter
    learning_rate_factor: float = 1.0
    start: Tensor | None = None


class AdaptedModel:
    """A model of which some parameters are trained.

    Attributes:
        model: Embeds images, and texts, through the adapter.
        method: What its kind of adapter does.
        config: The adapter's configuration.
        towers: Those that are trained.
        trainable_fraction: Trainable parameters relative to those of the trained towers before adaptation.
    """

    def __init__(self, model: VisionLanguageModel, config: AdapterConfig, method: Method[Any], tower_size: int) -> None:
        """Use `adapt`."""
        self.model, self.config, self.method = model, config, method
        self._trained = _requiring_gradient(self.towers)
        self.trainable_fraction = self.trainable / tower_size
        self._originals: dict[str, Tensor] = {}
        self._replaced: dict[str, nn.Parameter] | None = None  # layer -> its own base weight; None: as it is trained

    @property
    def towers(self) -> list[Tower]:
        """The towers that are trained; fresh views of the model, so that copies have their own."""
        return [self.model.tower(name) for name in tower_names(self.config.tower)]

    def parameters(self) -> list[nn.Parameter]:
        """Returns the trainable parameters, always in the same order."""
        return list(self._trained.values())

    def trained_parameters(self) -> list[TrainedParameter]:
        """Returns what `parameters` does, with how an optimiser treats each.

        Low-rank factors decay towards their starts: in the residual form, towards zero would be away from the
        pretrained weight.
        """
        starts = self.method.starts(self.layers)
        return [
            TrainedParameter(parameter, self.method.learning_rate_factor(name), starts.get(name))
            for name, parameter in self._trained.items()
        ]

    @property
    def trainable(self) -> int:
        """Number of trainable parameters."""
        return sum(parameter.numel() for parameter in self.parameters())

    @cached_property
    def layers(self) -> dict[str, Any]:
        """Name -> PEFT layer; empty where nothing is low-rank. The text tower's names begin with `text/`."""
        if not isinstance(self.config, LowRankAdapter):
            return {}
        from peft.tuners.tuners_utils import BaseTunerLayer

        return {
            _key(tower, name): layer
            for tower in self.towers
            for name, layer in tower.module.named_modules()
            if isinstance(layer, BaseTunerLayer) and tower.owns(name)
        }

    @property
    def trains_text(self) -> bool:
        """Whether captions must be embedded again after every step."""
        return self.config.tower != "vision" and self.config.trains

    @property
    def mergeable(self) -> bool:
        """Whether there is a low-rank update that the weights alone can hold; behind a LayerNorm they cannot."""
        return bool(self.layers) and self.config.linear

    def penalty(self) -> Tensor | None:
        """Returns the weighted penalty of the method; None where there is none.

        Alignment, mean over the matrices: lambda * mean ||s B diag(alpha) A - T||_F^2 / ||W0||_F^2, where the target
        T is the start a0 s B0 A0, the pretrained weight W0, or the clustered weight S C. AdaLoRA: orthogonal factors.
        """
        return self.method.penalty(self.layers)

    def metrics(self) -> dict[str, float]:
        """Returns numbers about what has become of the adapter, by name."""
        return self.method.metrics(self.layers)

    def schedule(self, steps: int) -> None:
        """Tells the adapter how many steps the training has."""
        self.method.schedule(steps)

    def before_step(self, progress: float) -> None:
        """Moves a scheduled alpha; `progress` is the share of all steps that are done."""
        self.method.before_step(self.layers, progress)

    def after_step(self, number: int) -> None:
        """Lets AdaLoRA allocate ranks after step `number`, counted from 0, before the gradients are cleared."""
        self.method.after_step(number)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Inside, the model is the function that it is now, with nothing trainable: for attacks and evaluations.

        The weight of an adapted layer holds its update, so that a pass costs what it costs the pretrained model, and no
        activation is kept for the gradient of a weight. Behind a LayerNorm the update stays beside the weight. On exit
        everything is bit for bit as before; until then, the state must not be loaded.
        """
        if self._replaced is not None:
            yield
            return
        weights = self.method.merged(self.layers) if self.mergeable else {}
        self._replaced = {name: self.layers[name].get_base_layer().weight for name in weights}
        try:
            with without_gradient(self.parameters()), holding(self.layers, weights, merged=True):
                yield
        finally:
            self._replaced = None

    @contextmanager
    def pretrained(self) -> Iterator[None]:
        """Inside, the model is the frozen pretrained one; no gradient may be taken through it.

        A low-rank update is switched off, and a start that the base weight lacks is added back; only parameters that
        are trained themselves have an original that is kept beside them, and only if `adapt` was told to. Inside
        `frozen`, the layers have their own weights for this time; the other way round, `frozen` has nothing to do.
        """
        before, self._replaced = self._replaced, self._replaced or {}
        moved = {name: self._trained[name].data for name in self._originals}
        # The model may have been moved since: its originals follow once, not in every step.
        self._originals = {name: original.to(moved[name]) for name, original in self._originals.items()}
        try:
            with without_gradient(self.parameters()), holding(self.layers, self._replaced, merged=False), self._off():
                for name, original in self._originals.items():
                    self._trained[name].data = original
                yield
        finally:
            for name, value in moved.items():
                self._trained[name].data = value
            self._replaced = before

    @contextmanager
    def _off(self) -> Iterator[None]:
        self.method.switch(self.layers, off=True)
        try:
            yield
        finally:
            self.method.switch(self.layers, off=False)  # PEFT also makes the factors require a gradient again

    def keep_originals(self) -> None:
        """Keeps what `pretrained` needs; to be called before anything is trained."""
        self._originals = {name: value.detach().clone() for name, value in self._trained.items() if FACTOR not in name}

    def state(self) -> dict[str, Tensor]:
        """Returns detached CPU clones of all that was trained, and of the start that the export needs."""
        state = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in self._live().items()}
        return state | self.method.state()

    @torch.no_grad()
    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restores what `state` returned, bit for bit.

        Raises:
            ValueError: If the state belongs to another configuration.
        """
        live = self._live()
        own = {name: tensor for name, tensor in state.items() if not name.startswith(ALLOCATION)}
        if {name: tensor.shape for name, tensor in live.items()} != {name: own[name].shape for name in own}:
            raise ValueError("the state does not belong to an adapter of this configuration")
        self.method.load_state(self.layers, state)
        for name, tensor in live.items():
            tensor.copy_(own[name])

    def _live(self) -> dict[str, Tensor]:
        buffers = {
            _key(tower, name): value
            for tower in self.towers
            for name, value in tower.module.named_buffers()
            if tower.owns(name)
        }
        return {**self._trained, **buffers}


def adapt(
    model: VisionLanguageModel,
    config: AdapterConfig,
    seed: int,
    cache_dir: Path | None = None,
    *,
    keep_originals: bool = False,
) -> AdaptedModel:
    """Makes a model trainable, in place.

    Whatever the start, the function is the pretrained one until the first step. (With dropout, which only the low-rank
    branch sees, that holds in eval mode, and in training mode on average.)

    Args:
        model: A copy that nobody else uses; frozen.
        config: What is trained, and how it starts.
        seed: Seed of the random parts of the initialisation.
        cache_dir: Where k-means and SVD are shared between processes; None for this process only.
        keep_originals: Whether `AdaptedModel.pretrained` will be used.

    Raises:
        ModelError: If the model lacks the layers that the configuration names, or they are too small for it.
    """
    towers = [model.tower(name) for name in tower_names(config.tower)]
    size = sum(parameter.numel() for tower in towers for parameter in tower.parameters().values())
    model.requires_grad_(False)
    method = method_of(config)
    if isinstance(method, LowRankMethod):
        for module, chosen in _layers(towers, method.config).items():
            with torch.random.fork_rng(devices=[]):  # PEFT draws a start, which the AdvLoRA variant replaces
                torch.manual_seed(seed_of(seed, "adapter"))
                method.inject(module, chosen, seed, cache_dir)
            module.train(module.training)  # also the new layers
    for tower in towers:
        for parameter in method.thawed(tower).values():
            parameter.requires_grad_(True)
    adapted = AdaptedModel(model, config, method, size)
    method.keep_starts(adapted.layers)
    if keep_originals:
        adapted.keep_originals()
    return adapted


def _layers(towers: list[Tower], config: LowRankAdapter) -> dict[nn.Module, dict[str, int]]:
    """Returns module -> layer -> rank; towers that share a module are adapted together.

    Raises:
        ModelError: If the towers lack the layers, or they are too small.
    """
    found: dict[nn.Module, dict[str, int]] = {}
    problems = []
    for tower in towers:
        chosen = layer_ranks(tower, config)
        layers = {name: tower.module.get_submodule(name) for name in chosen}
        shapes = {name: (int(layer.out_features), int(layer.in_features)) for name, layer in layers.items()}  # type: ignore[arg-type]
        problems += check_adapter(config, shapes, chosen)
        found.setdefault(tower.module, {}).update(chosen)
    if problems:
        raise ModelError(problems)
    return found


def _requiring_gradient(towers: list[Tower]) -> dict[str, nn.Parameter]:
    return {
        _key(tower, name): value
        for tower in towers
        for name, value in tower.parameters().items()
        if value.requires_grad
    }


def _key(tower: Tower, name: str) -> str:
    return TEXT_PREFIX + name if tower.name == "text" else name
