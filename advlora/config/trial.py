"""`TrialConfig`: the one schema of a trial. What is not named here cannot be varied."""

from __future__ import annotations

from math import ceil, sqrt
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from advlora.config.base import Count, Positive, Section, Share
from advlora.config.losses import CrossEntropyConfig, LossConfig
from advlora.config.poison import NoPoisonConfig, PoisonConfig
from advlora.config.training_attacks import AnyTrainingAttack, TrainPgd

LOCAL = "local-dir:"
"""Begins the name of a model that lies in a folder."""


class ModelConfig(Section):
    """The pretrained model that is adapted."""

    source: Literal["embedded", "open_clip", "transformers"] = "embedded"
    """`embedded`: shipped in the package. `open_clip`: by architecture name and pretrained tag or file.
    `transformers`: CLIP, SigLIP or BLIP image-text retrieval by the hub's name."""
    name: str = "tiny-clip"
    """Embedded name, open_clip architecture (`ViT-B-32`), name on the hub (`Salesforce/blip-itm-base-coco`), or
    `local-dir:PATH` of a folder of the source's library."""
    pretrained: str | None = None
    """open_clip tag or checkpoint file, or revision on the hub; None for a `local-dir:` folder, an embedded model, or
    the newest revision."""


class DataConfig(Section):
    """The data set; its manifest names shards, classes, templates and splits."""

    name: str = "fashion-mnist"
    """Name of an embedded data set, or the path of a folder that holds a `dataset.json` or what `layout` says."""
    layout: Literal["auto", "shards", "karpathy", "folders", "msrvtt"] = "auto"
    """`auto`: by what the folder holds. `shards`: WebDataset archives and `dataset.json`. `karpathy`: Flickr30k or
    MSCOCO with Karpathy's JSON. `folders`: a folder per class and `prompts.txt`. `msrvtt`: videos or their frames and
    `MSRVTT_data.json`."""
    frames: Count = 8
    """Frames of a video, sampled uniformly."""
    store: Literal["memory", "disk"] = "memory"
    """`disk`: for sets that memory does not hold. Decoded once into `ADVLORA_CACHE` (`~/.cache/advlora`), shared by all
    processes that see it, and mapped from there. A poisoned training set lies in memory all the same."""
    poison: PoisonConfig = NoPoisonConfig()
    train_samples: Count | None = None
    """How many training samples are used (the first of the split); None for all."""


class ClusteringConfig(Section):
    """Ingredient 1: start the adapter from k-means centroids of the pretrained weight."""

    enabled: bool = True
    clusters: Count | None = None
    """Number of clusters K; None means the rank."""
    axis: Literal["rows", "columns"] = "rows"
    algorithm: Literal["kmeans", "spherical", "random"] = "kmeans"
    """`spherical`: by the angle between rows (Dhillon & Modha 2001); the centroids are means of the rows themselves.
    `random`: equal parts drawn at random, the control for what the clusters are worth."""
    iterations: Count = 25
    restarts: Count = 1
    """Runs of k-means from different draws; the one that fits best counts."""
    seed: int | None = None
    """Seed of k-means; None means the trial's seed."""


class AlignmentConfig(Section):
    """Ingredient 2: keep the low-rank product B A aligned with the pretrained weight."""

    enabled: bool = True
    at: Literal["start", "training", "both"] = "both"
    """`start`: B is refitted to the weight by ridge least squares. `training`: a penalty in the loss."""
    weight: Annotated[float, Field(ge=0)] = 0.01
    """Weight lambda of the penalty in training."""
    ridge: Positive = 1e-3
    """Ridge of the least squares at the start, relative to the mean diagonal of A A^T."""


class AdaptiveConfig(Section):
    """Ingredient 3: a scale alpha of the low-rank product, learnable by default."""

    enabled: bool = True
    mode: Literal["learnable", "scheduled", "fixed"] = "learnable"
    """`scheduled`: alpha goes from `initial` to `final` over the training. `fixed`: it stays at `initial`."""
    per: Literal["matrix", "rank"] = "matrix"
    initial: float = 1.0
    final: float = 2.0
    """Where a scheduled alpha ends."""
    shape: Literal["linear", "cosine"] = "linear"
    """How a scheduled alpha gets there."""


class RanksConfig(Section):
    """Ranks of some roles where they differ from the adapter's; None means the adapter's rank."""

    attention: Count | None = None
    mlp: Count | None = None


class AdaLoraConfig(Section):
    """How AdaLoRA (Zhang et al. 2023) gives out its ranks; `adapter.rank` is the mean rank that is left."""

    initial_rank: Count | None = None
    """Rank of every matrix at the start; None means 1.5 times the rank that is left."""
    warmup: Share = 0.1
    """Share of all steps before ranks are taken away."""
    final: Share = 0.3
    """Share of all steps after the last ranks were taken away."""
    interval: Count = 1
    """Steps between two allocations."""
    orthogonality: Annotated[float, Field(ge=0)] = 0.5
    """Weight of the penalty that keeps the factors orthogonal."""

    @model_validator(mode="after")
    def _room_between(self) -> Self:
        if self.warmup + self.final >= 1:
            raise ValueError("adalora.warmup and adalora.final must add up to less than 1")
        return self


Also = Literal["norms", "biases", "patch_embedding", "position_embedding", "projection"]
LOW_RANK = ("lora", "dora", "adalora")


class AdapterConfig(Section):
    """What is trained, and how it starts."""

    kind: Literal["lora", "dora", "adalora", "full", "linear_probe", "norms", "none"] = "lora"
    """`lora`: low-rank adapter with the three ingredients. `dora`: magnitude and direction apart (Liu et al. 2024).
    `adalora`: ranks given out by importance (Zhang et al. 2023). `full`: the whole tower. `linear_probe`: only the
    projection into the joint space. `norms`: only the layer norms. `none`: the pretrained model as it is."""
    rank: Count = 8
    ranks: RanksConfig = RanksConfig()
    alpha: Positive | None = None
    """LoRA's alpha: the product is scaled by alpha / rank. None means alpha = rank (scale 1)."""
    rslora: bool = False
    """Scales by alpha / sqrt(rank) instead (rsLoRA, Kalajdzievski 2023)."""
    tower: Literal["vision", "text", "both"] = "vision"
    target: Literal["all-linear", "attention", "attention-qv", "mlp"] = "all-linear"
    blocks: tuple[int, int] | None = None
    """First and last transformer block, both included; negative ones count from the end. None means all."""
    dropout: Share = 0.0
    also: tuple[Also, ...] = ()
    """Small parameters that are trained beside a low-rank adapter."""
    norm_before: bool = False
    """A learnable LayerNorm in front of the low-rank factors (FullLoRA-AT, Yuan et al. 2024, section 3.2)."""
    start: Literal["gaussian", "norm_matched", "svd", "minor_svd"] = "gaussian"
    """The start where clustering is off: LoRA's own; a random one of the clustered start's norm; the leading
    singular directions (PiSSA, Meng et al. 2024); the trailing ones (MiLoRA, Wang et al. 2024)."""
    clustering: ClusteringConfig = ClusteringConfig()
    alignment: AlignmentConfig = AlignmentConfig()
    adaptive: AdaptiveConfig = AdaptiveConfig()
    adalora: AdaLoraConfig = AdaLoraConfig()

    @model_validator(mode="after")
    def _low_rank_only(self) -> Self:
        if self.also and self.kind not in LOW_RANK:
            raise ValueError(f"also: {', '.join(self.also)} is trained beside a low-rank adapter, not by '{self.kind}'")
        if self.kind == "adalora" and self.ranks != RanksConfig():
            raise ValueError("ranks: AdaLoRA gives out the ranks itself; leave ranks out")
        if self.kind == "adalora" and self.initial_rank < self.rank:
            raise ValueError(f"adalora.initial_rank: {self.adalora.initial_rank} is below the rank {self.rank}")
        return self

    @model_validator(mode="after")
    def _norm_before_fits(self) -> Self:
        if not self.norm_before:
            return self
        aligned = self.alignment.enabled and self.alignment.at != "training"
        if self.kind != "lora" or self.clustering.enabled or self.start != "gaussian" or aligned:
            raise ValueError(
                "norm_before needs kind 'lora', start 'gaussian', and clustering and alignment at the start off: "
                "behind a norm, no other start keeps the function of the pretrained model"
            )
        if self.tower != "vision":
            raise ValueError("norm_before: only the vision tower can be trained with it")
        return self

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        if self.kind == "lora" and self.clustering.enabled and self.start != "gaussian":
            raise ValueError(f"start '{self.start}' is a control for clustering; set clustering.enabled to false")
        return self

    @property
    def scaling(self) -> float:
        """The factor of the low-rank product: alpha / rank (Hu et al., 2022, section 4.1), or alpha / sqrt(rank)."""
        if self.rslora:
            return (self.rank if self.alpha is None else self.alpha) / sqrt(self.rank)
        return 1.0 if self.alpha is None else self.alpha / self.rank

    @property
    def initial_rank(self) -> int:
        """The rank that AdaLoRA starts from."""
        return self.adalora.initial_rank or ceil(1.5 * self.rank)

    def rank_of(self, role: str) -> int:
        """Returns the rank of the layers of a role, such as `query` or `up`."""
        return (self.ranks.mlp if role in ("up", "down") else self.ranks.attention) or self.rank

    def with_rank(self, rank: int) -> AdapterConfig:
        """Returns the configuration of a layer of this rank."""
        return self if rank == self.rank else self.model_copy(update={"rank": rank})

    @property
    def clusters(self) -> int:
        """The number of clusters K that is in force."""
        return self.clustering.clusters or self.rank


class OptimiserConfig(Section):
    """AdamW with warm-up and cosine decay."""

    learning_rate: Positive = 2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    batch_size: Count = 64
    epochs: Count = 3
    warmup: Share = 0.1
    """Share of all steps in which the learning rate rises linearly."""
    clip_norm: Positive = 1.0


class ResourcesConfig(Section):
    """What one trial occupies."""

    workers: Count = 1
    """Processes of the Ray Train group (data-parallel)."""
    cpus_per_worker: Count = 1
    """CPU cores, and torch threads, of each worker."""
    gpus_per_worker: Annotated[float, Field(ge=0)] = 0
    memory_gb_per_worker: Positive = 1.0
    """Main memory that a worker is expected to need; bounds how many trials run at once."""


class TrialConfig(Section):
    """Everything that determines the numbers of one trial, besides the evaluation protocol."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    adapter: AdapterConfig = AdapterConfig()
    attack: AnyTrainingAttack = TrainPgd()
    loss: LossConfig = CrossEntropyConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    precision: Literal["fp32", "bf16"] = "fp32"
    """Precision of training; evaluation is always fp32."""
    seed: Annotated[int, Field(ge=0)] = 0
    resources: ResourcesConfig = ResourcesConfig()

    @model_validator(mode="after")
    def _possible_together(self) -> Self:
        adapter, loss, attack = self.adapter, self.loss, self.attack
        if adapter.tower == "text" and loss.trains_images_only:
            raise ValueError(f"loss.kind: '{loss.kind}' trains image embeddings, but adapter.tower is 'text'")
        if loss.needs_random_start and attack.starts_clean:
            raise ValueError(f"attack.random_start: {loss.title} has no gradient at the clean image; set it to true")
        return self
