"""How each kind of adapter is put into a model, trained and exported: one class per class of `advlora.config.adapters`.

The layers are PEFT's, inside the model; only AdaLoRA's method keeps a state of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from advlora.adapters.adalora import Allocation
from advlora.adapters.placement import names_for_peft, projection, small_parameters
from advlora.config import LoraAdapter, LowRankAdapter
from advlora.config.adapters import (
    AdaLoraAdapter,
    Adapter,
    DoraAdapter,
    FullFineTuning,
    LinearProbe,
    NoAdapter,
    NormTuning,
)
from advlora.metrics import ADAPTIVE_MAX, ADAPTIVE_MEAN, ADAPTIVE_MIN, MISFIT
from advlora.models.base import Tower

FACTOR = "lora_"
"""In the name of every parameter that PEFT adds."""
ALLOCATION = "allocation/"
"""Prefix of the names in a state that do not belong to tensors of the model."""

Config = TypeVar("Config", bound=Adapter)
LowRankConfig = TypeVar("LowRankConfig", bound=LowRankAdapter)
Layers = dict[str, Any]
"""Name -> PEFT layer."""
Parameters = dict[str, nn.Parameter]


@dataclass(frozen=True)
class Update:
    """An update of a weight in the form that PEFT knows.

    Attributes:
        b: `(m, r)`, everything that scales the product included.
        a: `(r, n)`.
        magnitude: Norm of each row of the adapted weight `(m,)`; DoRA only.
    """

    b: Tensor
    a: Tensor
    magnitude: Tensor | None = None

    def added_to(self, weight: Tensor) -> Tensor:
        """Returns the weight `(m, n)` with the update; DoRA gives every row its magnitude (Liu et al. 2024)."""
        moved = torch.addmm(weight, self.b, self.a)  # (m, n) + (m, r) @ (r, n)
        if self.magnitude is None:
            return moved
        length: Tensor = torch.linalg.vector_norm(moved, dim=1, keepdim=True)  # (m, 1)
        return moved * (self.magnitude[:, None] / length)  # (m, n) * (m, 1)


class Method(Generic[Config]):
    """What differs between kinds of adapters; this base class trains nothing."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def thawed(self, tower: Tower) -> Parameters:
        """Returns the parameters outside low-rank factors that are trained.

        Raises:
            ModelError: If the tower lacks them.
        """
        return {}

    def penalty(self, layers: Layers) -> Tensor | None:
        """Returns the weighted penalty that the loss gains; None where there is none."""
        return None

    def learning_rate_factor(self, name: str) -> float:
        """Returns the learning rate of the parameter of this name, relative to the optimiser's."""
        return 1.0

    def keep_starts(self, layers: Layers) -> None:
        """Keeps what `starts` returns, where nothing else does; to be called before anything is trained."""

    def starts(self, layers: Layers) -> dict[str, Tensor]:
        """Returns the starts of low-rank factors by name; weight decay pulls the factors towards them."""
        return {}

    def metrics(self, layers: Layers) -> dict[str, float]:
        """Returns numbers about what has become of the adapter, by name."""
        return {}

    def schedule(self, steps: int) -> None:
        """Prepares for a training of so many steps."""

    def before_step(self, layers: Layers, progress: float) -> None:
        """Acts before a step; `progress` is the share of all steps that are done."""

    def after_step(self, number: int) -> None:
        """Acts after step `number`, counted from 0, before the gradients are cleared."""

    def switch(self, layers: Layers, *, off: bool) -> None:
        """Makes the layers the pretrained ones, or puts the adapter back."""

    def merged(self, layers: Layers) -> Parameters:
        """Returns layer -> the weight that alone does what the layer does now; empty where nothing is low-rank."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """Returns what training needs besides the tensors of the model; all names begin with `ALLOCATION`."""
        return {}

    def load_state(self, layers: Layers, state: dict[str, Tensor]) -> None:
        """Prepares for the tensors in `state`, which are copied next, and takes over what `state()` returned."""


METHODS: dict[type[Adapter], type[Method[Any]]] = {}
"""Class of the configuration -> class that runs it."""


def method_of(config: Adapter) -> Method[Any]:
    """Returns the method that a configuration describes."""
    return METHODS[type(config)](config)


def runs(config: type[Adapter]) -> Callable[[type[Method[Any]]], type[Method[Any]]]:
    """Registers the class that runs a class of configurations."""

    def register(method: type[Method[Any]]) -> type[Method[Any]]:
        METHODS[config] = method
        return method

    return register


@runs(NoAdapter)
class _Nothing(Method[NoAdapter]):
    pass


@runs(FullFineTuning)
class _Full(Method[FullFineTuning]):
    def thawed(self, tower: Tower) -> Parameters:
        return tower.parameters()


@runs(LinearProbe)
class _Probe(Method[LinearProbe]):
    def thawed(self, tower: Tower) -> Parameters:
        return projection(tower)


@runs(NormTuning)
class _Norms(Method[NormTuning]):
    def thawed(self, tower: Tower) -> Parameters:
        return small_parameters(tower, ["norms"])


class LowRankMethod(Method[LowRankConfig]):
    """Low-rank factors in PEFT's layers."""

    def __init__(self, config: LowRankConfig) -> None:
        super().__init__(config)
        self._starts: dict[str, Tensor] = {}

    def inject(self, module: nn.Module, ranks: dict[str, int], seed: int, cache_dir: Path | None) -> None:
        """Puts the factors into a module.

        Args:
            module: Holds the layers.
            ranks: Layer -> rank.
            seed: The trial's seed; PEFT's own random numbers are seeded already.
            cache_dir: Where k-means and SVD are shared between processes.
        """
        raise NotImplementedError

    def update(self, layer: Any) -> Update:
        """Returns the update of a layer's weight, relative to the original weight."""
        raise NotImplementedError

    def addition(self, layer: Any) -> Update:
        """Returns what a layer adds to its base weight, which is the original weight unless the start was taken out."""
        return self.update(layer)

    @torch.no_grad()
    def merged(self, layers: Layers) -> Parameters:
        """See `Method`; not for layers with a norm in front of the factors."""
        whole = {name: self.addition(layer).added_to(layer.get_base_layer().weight) for name, layer in layers.items()}
        return {name: nn.Parameter(weight, requires_grad=False) for name, weight in whole.items()}

    def thawed(self, tower: Tower) -> Parameters:
        """Returns the small parameters that are trained beside the factors."""
        return small_parameters(tower, self.config.modules_to_save)

    def learning_rate_factor(self, name: str) -> float:
        """Returns LoRA+'s ratio for B, and 1 for all others."""
        return self.config.loraplus_lr_ratio if ".lora_B." in name else 1.0

    def keep_starts(self, layers: Layers) -> None:
        """Keeps copies of all matrices of PEFT's."""
        self._starts = {
            f"{name}.{own}": parameter.detach().clone()
            for name, layer in layers.items()
            for own, parameter in layer.named_parameters()
            if FACTOR in own and parameter.dim() > 1
        }

    def starts(self, layers: Layers) -> dict[str, Tensor]:
        """Returns what `keep_starts` kept."""
        return self._starts

    def switch(self, layers: Layers, *, off: bool) -> None:
        """Switches the factors off, or on again."""
        for layer in layers.values():
            layer.enable_adapters(not off)


@runs(LoraAdapter)
class _Lora(LowRankMethod[LoraAdapter]):
    def inject(self, module: nn.Module, ranks: dict[str, int], seed: int, cache_dir: Path | None) -> None:
        from peft import inject_adapter_in_model

        from advlora.adapters.variant import AdvLoraConfig

        names = names_for_peft(ranks, module)
        inject_adapter_in_model(AdvLoraConfig.of(self.config, names, seed, cache_dir, ranks), module)

    def penalty(self, layers: Layers) -> Tensor | None:
        if not self.config.alignment.penalises:
            return None
        return self.config.alignment.weight * torch.stack([layer.misfit() for layer in layers.values()]).mean()

    def learning_rate_factor(self, name: str) -> float:
        if ".lora_adaptive." in name:
            return self.config.adaptive.learning_rate_factor
        return super().learning_rate_factor(name)

    def keep_starts(self, layers: Layers) -> None:
        pass  # the anchors are the starts, also those of a state that training continues from

    def starts(self, layers: Layers) -> dict[str, Tensor]:
        anchors = {name: layer.anchors["default"] for name, layer in layers.items()}
        return {
            f"{name}.lora_{factor}.default.weight": start
            for name, anchor in anchors.items()
            for factor, start in (("A", anchor.a0), ("B", anchor.b0))
        }

    @torch.no_grad()
    def metrics(self, layers: Layers) -> dict[str, float]:
        misfits = torch.stack([layer.misfit() for layer in layers.values()])
        found = {str(MISFIT): float(misfits.mean())}
        alphas = [alpha for layer in layers.values() if (alpha := layer.adaptive_scale()) is not None]
        if alphas:
            whole = torch.cat(alphas)
            found |= {
                str(ADAPTIVE_MEAN): float(whole.mean()),
                str(ADAPTIVE_MIN): float(whole.min()),
                str(ADAPTIVE_MAX): float(whole.max()),
            }
        return found

    def before_step(self, layers: Layers, progress: float) -> None:
        if self.config.adaptive.enabled and self.config.adaptive.mode == "scheduled":
            for layer in layers.values():
                layer.move_alpha(progress)

    def switch(self, layers: Layers, *, off: bool) -> None:
        # Without its update, the base weight would lack the start.
        for layer in layers.values():
            layer.as_pretrained = off

    def load_state(self, layers: Layers, state: dict[str, Tensor]) -> None:
        for name, layer in layers.items():
            layer.move_anchor(state[f"{name}.anchors.default.b0"], state[f"{name}.anchors.default.a0"])

    def addition(self, layer: Any) -> Update:
        return Update(*layer.scaled_factors())

    def update(self, layer: Any) -> Update:
        b, a = layer.scaled_factors()
        anchor = layer.anchors["default"]
        if not anchor.b0.any():
            return Update(b, a)
        # Twice the rank takes out the start too: [s B diag(alpha), -a0 s B0] [A; A0].
        return Update(torch.cat([b, -anchor.factor * anchor.b0], 1), torch.cat([a, anchor.a0]))


@runs(DoraAdapter)
class _Dora(LowRankMethod[DoraAdapter]):
    def inject(self, module: nn.Module, ranks: dict[str, int], seed: int, cache_dir: Path | None) -> None:
        from peft import LoraConfig, inject_adapter_in_model

        from advlora.adapters.variant import rank_patterns

        settings = LoraConfig(
            use_dora=True,
            use_rslora=self.config.rslora,
            lora_dropout=self.config.dropout,
            target_modules=names_for_peft(ranks, module),
            **rank_patterns(self.config, ranks),
        )
        inject_adapter_in_model(settings, module)

    def update(self, layer: Any) -> Update:
        b, a = layer.lora_B["default"].weight, layer.lora_A["default"].weight
        return Update(layer.scaling["default"] * b, a, layer.lora_magnitude_vector["default"].weight)


@runs(AdaLoraAdapter)
class _AdaLora(LowRankMethod[AdaLoraAdapter]):
    def __init__(self, config: AdaLoraAdapter) -> None:
        super().__init__(config)
        self.allocations: list[Allocation] = []

    def inject(self, module: nn.Module, ranks: dict[str, int], seed: int, cache_dir: Path | None) -> None:
        self.allocations.append(Allocation(module, names_for_peft(ranks, module), self.config))

    def penalty(self, layers: Layers) -> Tensor | None:
        return torch.stack([allocation.penalty() for allocation in self.allocations]).mean()

    def schedule(self, steps: int) -> None:
        for allocation in self.allocations:
            allocation.schedule(steps)

    def after_step(self, number: int) -> None:
        for allocation in self.allocations:
            allocation.step(number)

    def state(self) -> dict[str, Tensor]:
        return {
            f"{ALLOCATION}{number}/{name}": value
            for number, allocation in enumerate(self.allocations)
            for name, value in allocation.state().items()
        }

    def load_state(self, layers: Layers, state: dict[str, Tensor]) -> None:
        for number, allocation in enumerate(self.allocations):
            head = f"{ALLOCATION}{number}/"
            allocation.load_state({key.removeprefix(head): v for key, v in state.items() if key.startswith(head)})

    def update(self, layer: Any) -> Update:
        scale = layer.scaling["default"] / (layer.ranknum["default"] + 1e-5)  # as in PEFT's own `get_delta_weight`
        return Update(scale * layer.lora_B["default"], layer.lora_A["default"] * layer.lora_E["default"])
