"""What is trained: one class per kind of adapter, with its own keys and what is known about it."""

from __future__ import annotations

from math import ceil, sqrt
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from advlora.config.base import Count, Positive, Real, Section, Share, Switch, Weight, Whole, default_kind, given
from advlora.config.inits import InitConfig, KMeansInit


class AlignmentConfig(Switch):
    """Ingredient 2 of AdvLoRA: keep the low-rank product B A aligned with the pretrained weight."""

    at: Literal["start", "training", "both"] = "both"
    """`start`: B is refitted to the weight by ridge least squares. `training`: a penalty in the loss."""
    target: Literal["start", "weight", "clusters"] = "start"
    """What the penalty compares the product with. `start`: the start itself, so that only leaving the pretrained
    function costs. `weight`: the pretrained weight. `clusters`: that weight with its rows replaced by centroids."""
    weight: Weight = 3.0
    """Weight lambda of the penalty in training."""
    ridge: Positive = 1e-3
    """Ridge of the least squares at the start, relative to the mean diagonal of A A^T."""

    @property
    def starts(self) -> bool:
        """Whether B is refitted at the start."""
        return self.enabled and self.at != "training"

    @property
    def penalises(self) -> bool:
        """Whether the loss has a penalty."""
        return self.enabled and self.at != "start" and self.weight > 0

    @model_validator(mode="after")
    def _no_idle_key(self) -> Self:
        if self.at == "start" and (idle := given(self, "weight", "target")):
            raise ValueError(f"{', '.join(idle)} belongs to the penalty in training, and has no effect with at: start")
        if self.at == "training" and given(self, "ridge"):
            raise ValueError("ridge belongs to the refit at the start, and has no effect with at: training")
        return self


class AdaptiveConfig(Switch):
    """Ingredient 3 of AdvLoRA: a scale alpha of the low-rank product, learnable by default."""

    mode: Literal["learnable", "scheduled", "fixed"] = "learnable"
    """`scheduled`: alpha goes from `initial` to `final` over the training. `fixed`: it stays at `initial`."""
    per: Literal["matrix", "rank"] = "matrix"
    """One alpha per weight matrix, or one per rank."""
    initial: Real = 1.0
    """Alpha at the start."""
    final: Real = 2.0
    """Where a scheduled alpha ends."""
    shape: Literal["linear", "cosine"] = "linear"
    """How a scheduled alpha gets there."""
    learning_rate_factor: Positive = 10.0
    """Learning rate of a learnable alpha, relative to the optimiser's: AdamW moves a number by about its learning rate
    per step, which is little for a scale of 1."""

    @model_validator(mode="after")
    def _no_idle_key(self) -> Self:
        for mode, keys in {"scheduled": ("final", "shape"), "learnable": ("learning_rate_factor",)}.items():
            if self.mode != mode and (idle := given(self, *keys)):
                raise ValueError(f"{', '.join(idle)} belongs to mode: {mode}, and has no effect with {self.mode}")
        return self


class RanksConfig(Section):
    """Ranks of some roles where they differ from the adapter's; None means the adapter's rank."""

    attention: Count | None = None
    """Rank in the attention layers."""
    mlp: Count | None = None
    """Rank in the feed-forward layers."""


TowerChoice = Literal["vision", "text", "both"]
SmallParameters = Literal["norms", "biases", "patch_embedding", "position_embedding", "projection"]


class Adapter(Section):
    """A way to adapt a model."""

    kind: str
    title: ClassVar[str]
    """Its name in tables and figures."""
    trains: ClassVar[bool] = True
    """Whether anything is trained."""
    step_forwards: ClassVar[int]
    """Cost of one update without the attack, in forward passes of the vision tower (see `training.cost`)."""

    @property
    def label(self) -> str:
        """Tells it from others of its kind, such as `k-means + alignment`."""
        return self.title

    @property
    def linear(self) -> bool:
        """Whether every adapted layer stays a linear map, so that the weights alone can hold the update."""
        return True


class LowRankAdapter(Adapter):
    """Low-rank factors in the linear layers of the transformer blocks."""

    step_forwards: ClassVar[int] = 2

    rank: Count = 8
    """Rank of the low-rank product."""
    alpha: Positive | None = None
    """LoRA's alpha: the product is scaled by alpha / rank. None means alpha = rank (scale 1)."""
    tower: TowerChoice = "vision"
    """Which tower is adapted."""
    target: Literal["all-linear", "attention", "attention-qv", "mlp"] = "all-linear"
    """Which linear layers of a block are adapted."""
    blocks: tuple[Whole, Whole] | None = None
    """First and last transformer block, both included; negative ones count from the end. None means all."""
    dropout: Share = 0.0
    """Share of the adapter's inputs that is dropped in training."""
    loraplus_lr_ratio: Positive = 1.0
    """Learning rate of B relative to that of A (LoRA+, Hayou et al. 2024, section 4; PEFT's name)."""
    modules_to_save: tuple[SmallParameters, ...] = ()
    """Small parameters that are trained in full, and saved, beside the low-rank factors (PEFT's name)."""

    def rank_of(self, role: str) -> int:
        """Returns the rank at the start of the layers of a role, such as `query` or `up`."""
        return self.rank


class RankedByRole(LowRankAdapter):
    """A low-rank adapter whose layers keep the ranks that their roles are given."""

    ranks: RanksConfig = RanksConfig()
    """Ranks of some roles where they differ from `rank`."""
    rslora: bool = False
    """Scales by alpha / sqrt(rank) instead (rsLoRA, Kalajdzievski 2023)."""

    @property
    def scaling(self) -> float:
        """The factor of the low-rank product: alpha / rank (Hu et al., 2022, section 4.1), or alpha / sqrt(rank)."""
        if self.rslora:
            return (self.rank if self.alpha is None else self.alpha) / sqrt(self.rank)
        return 1.0 if self.alpha is None else self.alpha / self.rank

    def rank_of(self, role: str) -> int:
        """Returns the rank of the layers of a role, such as `query` or `up`."""
        return (self.ranks.mlp if role in ("up", "down") else self.ranks.attention) or self.rank


class LoraAdapter(RankedByRole):
    """LoRA with the three ingredients of AdvLoRA; with init `gaussian` and the other two off it is LoRA itself."""

    kind: Literal["lora"] = "lora"
    title: ClassVar[str] = "LoRA"

    norm_before: bool = False
    """A learnable LayerNorm in front of the low-rank factors (FullLoRA-AT, Yuan et al. 2024, section 3.2)."""
    init: InitConfig = KMeansInit()
    """How the low-rank factors start: ingredient 1 of AdvLoRA."""
    alignment: AlignmentConfig = AlignmentConfig()
    """Ingredient 2 of AdvLoRA."""
    adaptive: AdaptiveConfig = AdaptiveConfig()
    """Ingredient 3 of AdvLoRA."""

    @model_validator(mode="after")
    def _norm_before_fits(self) -> Self:
        if self.norm_before and (not self.init.from_zero or self.alignment.starts):
            raise ValueError(
                "norm_before needs init 'gaussian', and alignment off or in training only: "
                "behind a norm, no other start keeps the function of the pretrained model"
            )
        if self.norm_before and self.tower != "vision":
            raise ValueError("norm_before: only the vision tower can be trained with it")
        return self

    @model_validator(mode="after")
    def _target_fits(self) -> Self:
        if self.alignment.target == "clusters" and not self.init.clustered:
            raise ValueError(
                f"alignment.target: 'clusters' needs an init that starts from clusters, such as 'kmeans', "
                f"but init is '{self.init.kind}'"
            )
        return self

    @property
    def label(self) -> str:
        """How it starts, and which other ingredients it has, such as `k-means + alignment + scale`."""
        more = {"alignment": self.alignment.enabled, "scale": self.adaptive.enabled}
        return " + ".join([self.init.title, *(word for word, on in more.items() if on)])

    @property
    def linear(self) -> bool:
        """Whether there is no norm in front of the factors."""
        return not self.norm_before

    def with_rank(self, rank: int) -> LoraAdapter:
        """Returns the configuration of a layer of this rank."""
        return self if rank == self.rank else self.model_copy(update={"rank": rank})


class DoraAdapter(RankedByRole):
    """Magnitude and direction of the weight apart (Liu et al. 2024); PEFT's own."""

    kind: Literal["dora"] = "dora"
    title: ClassVar[str] = "DoRA"


class AdaLoraAdapter(LowRankAdapter):
    """Ranks given out by importance (Zhang et al. 2023); `rank` is the mean rank that is left. PEFT's own."""

    kind: Literal["adalora"] = "adalora"
    title: ClassVar[str] = "AdaLoRA"

    initial_rank: Count | None = None
    """Rank of every matrix at the start; None means 1.5 times the rank that is left."""
    warmup: Share = 0.1
    """Share of all steps before ranks are taken away."""
    final: Share = 0.3
    """Share of all steps after the last ranks were taken away."""
    interval: Count = 1
    """Steps between two allocations."""
    orthogonality: Weight = 0.5
    """Weight of the penalty that keeps the factors orthogonal."""

    @model_validator(mode="after")
    def _room_to_allocate(self) -> Self:
        if self.warmup + self.final >= 1:
            raise ValueError("warmup and final must add up to less than 1")
        if self.first_rank < self.rank:
            raise ValueError(f"initial_rank: {self.initial_rank} is below the rank {self.rank}")
        return self

    @property
    def first_rank(self) -> int:
        """The rank of every matrix at the start."""
        return self.initial_rank or ceil(1.5 * self.rank)

    def rank_of(self, role: str) -> int:
        """Returns the rank at the start, which is the same for all roles."""
        return self.first_rank


class FullFineTuning(Adapter):
    """The whole tower."""

    kind: Literal["full"] = "full"
    title: ClassVar[str] = "full fine-tuning"
    step_forwards: ClassVar[int] = 3
    tower: TowerChoice = "vision"
    """Which tower is trained."""


class LinearProbe(Adapter):
    """Only the projection into the joint space."""

    kind: Literal["linear_probe"] = "linear_probe"
    title: ClassVar[str] = "linear probe"
    step_forwards: ClassVar[int] = 1
    tower: TowerChoice = "vision"
    """Whose projection is trained."""


class NormTuning(Adapter):
    """Only the layer norms (Basu et al. 2024)."""

    kind: Literal["norms"] = "norms"
    title: ClassVar[str] = "layer norms"
    step_forwards: ClassVar[int] = 2
    tower: TowerChoice = "vision"
    """Whose norms are trained."""


class NoAdapter(Adapter):
    """The pretrained model as it is."""

    kind: Literal["none"] = "none"
    title: ClassVar[str] = "pretrained"
    trains: ClassVar[bool] = False
    step_forwards: ClassVar[int] = 0
    tower: ClassVar[TowerChoice] = "vision"
    """The tower whose size a trained share would be measured against."""


AdapterConfig = Annotated[
    LoraAdapter | DoraAdapter | AdaLoraAdapter | FullFineTuning | LinearProbe | NormTuning | NoAdapter,
    Field(discriminator="kind"),
    default_kind("lora"),
]
