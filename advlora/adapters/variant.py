"""AdvLoRA as a PEFT LoRA variant: PEFT's own layers, merging and saving, with another start and a learnable scale."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from peft.tuners.lora.layer import Linear as LoraLinear
from peft.tuners.lora.layer import LoraVariant
from torch import Tensor, nn
from torch.nn.functional import linear

from advlora.adapters.adaptive import alpha_parameter, fixed_alpha, initial_alpha, scheduled_alpha
from advlora.adapters.alignment import ClusterTarget, Product, StartTarget, WeightTarget
from advlora.adapters.inits import Start
from advlora.config import LoraAdapter
from advlora.config.adapters import RankedByRole
from advlora.config.inits import ClusterInit


@dataclass
class AdvLoraConfig(LoraConfig):
    """PEFT configuration of the adapter; build it with `of`.

    Attributes:
        recipe: A `LoraAdapter` as plain data, so that PEFT can write it as JSON.
        seed: The trial's seed.
        cache_dir: Where k-means and SVD are shared between processes.
    """

    recipe: dict[str, Any] = field(default_factory=dict, metadata={"is_lora_variant": True})
    seed: int = 0
    cache_dir: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._register_custom_module({nn.Linear: AdvLoraLinear})

    @classmethod
    def of(
        cls,
        config: LoraAdapter,
        targets: list[str] | str,
        seed: int,
        cache_dir: Path | None = None,
        ranks: dict[str, int] | None = None,
    ) -> AdvLoraConfig:
        """Translates a `LoraAdapter`.

        Args:
            config: The adapter.
            targets: The layers.
            seed: The trial's seed.
            cache_dir: Where k-means and SVD are shared between processes.
            ranks: Layer -> rank, where it is not the adapter's.
        """
        return cls(
            use_rslora=config.rslora,
            lora_dropout=config.dropout,
            target_modules=targets,
            **rank_patterns(config, ranks or {}),
            init_lora_weights=False,
            recipe=config.model_dump(),
            seed=seed,
            cache_dir=None if cache_dir is None else str(cache_dir),
        )

    @classmethod
    def from_peft_type(cls, **kwargs: Any) -> AdvLoraConfig:
        """Rebuilds from saved values; PEFT's own version would return a plain `LoraConfig` and drop the recipe."""
        known = {entry.name for entry in fields(cls) if entry.init}
        return cls(**{name: value for name, value in kwargs.items() if name in known - {"peft_type"}})

    @property
    def start(self) -> Start:
        """The start that the recipe describes."""
        return Start(
            LoraAdapter.model_validate(self.recipe),
            self.seed,
            None if self.cache_dir is None else Path(self.cache_dir),
        )


def rank_patterns(config: RankedByRole, ranks: dict[str, int]) -> dict[str, Any]:
    """Returns rank and alpha for PEFT, and those of the layers that differ."""
    others = {name: rank for name, rank in ranks.items() if rank != config.rank}
    return {
        "r": config.rank,
        "lora_alpha": config.rank if config.alpha is None else config.alpha,
        "rank_pattern": others,
        "alpha_pattern": dict(others) if config.alpha is None else {},
    }


class Anchor(nn.Module):
    """What stays fixed beside one adapter: the start that the base weight lacks, and the target of alignment."""

    def __init__(
        self,
        weight: Tensor,
        b0: Tensor,
        a0: Tensor,
        factor: float,
        target: StartTarget,
        alpha: Tensor | None = None,
    ) -> None:
        """Takes the pretrained weight `(m, n)`, B0, A0, a0 s, the target, and an alpha that is not learned."""
        super().__init__()
        self.factor, self.target = factor, target
        self.b0: Tensor
        self.a0: Tensor
        self.squared_norm: Tensor
        for name, tensor in {"b0": b0, "a0": a0, "squared_norm": weight.square().sum()}.items():
            self.register_buffer(name, tensor.clone(), persistent=False)
        self.alpha: Tensor | None
        self.register_buffer("alpha", alpha, persistent=False)

    def product(self) -> Tensor:
        """Returns a0 s B0 A0 `(m, n)`, which the base weight lacks."""
        return self.factor * (self.b0 @ self.a0)

    def misfit(self, product: Product, residual: Tensor) -> Tensor:
        """Returns ||B A - T||_F^2 / ||W0||_F^2 for the target T; `residual` is the base weight."""
        start = Product(self.factor * self.b0, self.a0)
        norm = self.squared_norm.clamp_min(torch.finfo(self.squared_norm.dtype).tiny)
        return self.target.squared_distance(product, start, residual).clamp_min(0) / norm


class AdvLoraLinear(LoraLinear):
    """PEFT's adapted linear layer, plus alpha (`lora_adaptive`), the anchor, and a norm in front (`lora_norm`).

    Attributes:
        as_pretrained: Whether the layer is the pretrained one for the time being.
    """

    as_pretrained = False

    @property
    def lora_variants(self) -> dict[tuple[str, ...], type[LoraVariant] | None]:
        """PEFT's registry of variants with this one added."""
        return {**super().lora_variants, ("recipe",): AdvLoraVariant}

    def get_delta_weight(self, adapter: str) -> Tensor:
        """Returns s B diag(alpha) A `(m, n)`, which is added to the base weight."""
        b, a = self.scaled_factors(adapter)
        delta: Tensor = b @ a
        return delta

    def scaled_factors(self, adapter: str = "default") -> tuple[Tensor, Tensor]:
        """Returns s B diag(alpha) `(m, r)` and A `(r, n)`."""
        b, a = self.lora_B[adapter].weight, self.lora_A[adapter].weight
        alpha = self.adaptive_scale(adapter)
        return b * (1.0 if alpha is None else alpha) * self.scaling[adapter], a

    def adaptive_scale(self, adapter: str = "default") -> Tensor | None:
        """Returns alpha, `(1,)` or `(r,)`; None where it is 1."""
        alpha: Tensor | None = self.lora_adaptive.get(adapter)
        if alpha is None:
            alpha = self.anchors[adapter].alpha
        return alpha

    def move_alpha(self, progress: float, adapter: str = "default") -> None:
        """Sets a scheduled alpha to its value after a share of all steps."""
        config = self.recipes[adapter].adaptive
        self.anchors[adapter].alpha.fill_(scheduled_alpha(config, progress))

    def misfit(self, adapter: str = "default") -> Tensor:
        """Returns ||s B diag(alpha) A - T||_F^2 / ||W0||_F^2 for the alignment target T."""
        anchor: Anchor = self.anchors[adapter]
        return anchor.misfit(Product(*self.scaled_factors(adapter)), self.get_base_layer().weight)

    @torch.no_grad()
    def move_anchor(self, b0: Tensor, a0: Tensor, adapter: str = "default") -> None:
        """Changes the start that the base weight lacks; the base weight stays bit for bit if it is the same."""
        anchor, base = self.anchors[adapter], self.get_base_layer()
        if torch.equal(anchor.b0, b0.to(anchor.b0)) and torch.equal(anchor.a0, a0.to(anchor.a0)):
            return
        base.weight += anchor.product()
        anchor.b0.copy_(b0)
        anchor.a0.copy_(a0)
        base.weight -= anchor.product()


class AdvLoraVariant(LoraVariant):
    """The hooks through which PEFT starts, runs, merges and unmerges the adapter."""

    @staticmethod
    @torch.no_grad()
    def init(module: AdvLoraLinear, adapter_name: str, config: AdvLoraConfig, **_: Any) -> None:
        """Sets A, B and alpha, and subtracts a0 s B0 A0 from the base weight."""
        if not hasattr(module, "lora_adaptive"):
            module.adapter_layer_names = (*module.adapter_layer_names, "lora_adaptive", "lora_norm")
            module.lora_adaptive, module.anchors = nn.ParameterDict(), nn.ModuleDict()
            module.lora_norm, module.recipes = nn.ModuleDict(), {}
        base, general = module.get_base_layer().weight, config.start
        recipe = general.config.with_rank(module.r[adapter_name])
        start = replace(general, config=recipe)
        module.recipes[adapter_name] = recipe
        if recipe.norm_before:
            module.lora_norm[adapter_name] = nn.LayerNorm(base.shape[1]).to(base)
        a, b = module.lora_A[adapter_name].weight, module.lora_B[adapter_name].weight
        alpha = alpha_parameter(recipe.adaptive, recipe.rank)
        if alpha is not None:
            module.lora_adaptive[adapter_name] = alpha.to(a)
        b0, a0 = start.factors(base)
        factor = initial_alpha(recipe.adaptive) * module.scaling[adapter_name]
        anchor = Anchor(base, b0, a0, factor, _target(start, base), fixed_alpha(recipe.adaptive, recipe.rank, base))
        module.anchors[adapter_name] = anchor
        if b0.any():
            base -= anchor.product()
        if a.device.type != "meta":  # on the meta device, PEFT fills them from a file
            a.copy_(a0)
            b.copy_(b0)

    @staticmethod
    def forward(module: AdvLoraLinear, active_adapter: str, x: Tensor, result: Tensor, **_: Any) -> Tensor:
        """Adds s B diag(alpha) A x to the base layer's output; as the pretrained layer, a0 s B0 A0 x instead."""
        if module.as_pretrained:
            anchor = module.anchors[active_adapter]
            start: Tensor = anchor.factor * linear(linear(x, anchor.a0), anchor.b0)
            return result + start
        inner = module.lora_norm[active_adapter](x) if active_adapter in module.lora_norm else x
        hidden = module.lora_A[active_adapter](module.lora_dropout[active_adapter](inner))
        alpha = module.adaptive_scale(active_adapter)
        if alpha is not None:
            hidden = hidden * alpha
        update: Tensor = module.lora_B[active_adapter](hidden) * module.scaling[active_adapter]
        return result + update

    @staticmethod
    def merge_safe(module: AdvLoraLinear, active_adapter: str, orig_weight: Tensor) -> Tensor:
        """Returns the merged weight."""
        return orig_weight + module.get_delta_weight(active_adapter).to(orig_weight.dtype)

    @staticmethod
    def merge_unsafe(module: AdvLoraLinear, active_adapter: str, orig_weight: Tensor) -> None:
        """Merges in place."""
        orig_weight.data += module.get_delta_weight(active_adapter).to(orig_weight.dtype)

    @staticmethod
    def unmerge(module: AdvLoraLinear, active_adapter: str, orig_weight: Tensor) -> Tensor:
        """Returns the weight before merging."""
        unmerged: Tensor = orig_weight.data - module.get_delta_weight(active_adapter).to(orig_weight.dtype)
        return unmerged


def _target(start: Start, weight: Tensor) -> StartTarget:
    """Returns what the penalty in training compares with; the start where there is none."""
    init, target = start.config.init, start.config.alignment.target
    if target == "clusters" and isinstance(init, ClusterInit):
        return ClusterTarget(start.clustering(init, weight)).to(weight.device)
    return WeightTarget() if target == "weight" else StartTarget()
