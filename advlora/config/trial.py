"""`TrialConfig`: the one schema of a trial. What is not named here cannot be varied."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from advlora.config.base import Count, Positive, Ratio, Section, Share


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
    """Name of an embedded data set, or the path of a folder that holds a `dataset.json`."""
    train_samples: Count | None = None
    """How many training samples are used (the first of the split); None for all."""


class ClusteringConfig(Section):
    """Ingredient 1: start the adapter from k-means centroids of the pretrained weight."""

    enabled: bool = True
    clusters: Count | None = None
    """Number of clusters K; None means the rank."""
    axis: Literal["rows", "columns"] = "rows"
    iterations: Count = 25
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
    """Ingredient 3: a learnable scale alpha of the low-rank product."""

    enabled: bool = True
    per: Literal["matrix", "rank"] = "matrix"
    initial: float = 1.0


class AdapterConfig(Section):
    """What is trained, and how it starts."""

    kind: Literal["lora", "full", "linear_probe", "none"] = "lora"
    """`lora`: low-rank adapter with the three ingredients. `full`: the whole vision tower.
    `linear_probe`: only the projection into the joint space. `none`: the pretrained model as it is."""
    rank: Count = 8
    alpha: Positive | None = None
    """LoRA's alpha: the product is scaled by alpha / rank. None means alpha = rank (scale 1)."""
    target: Literal["all-linear", "attention", "attention-qv", "mlp"] = "all-linear"
    dropout: Share = 0.0
    start: Literal["gaussian", "norm_matched", "svd", "minor_svd"] = "gaussian"
    """The start where clustering is off: LoRA's own; a random one of the clustered start's norm; the leading
    singular directions (PiSSA, Meng et al. 2024); the trailing ones (MiLoRA, Wang et al. 2024)."""
    clustering: ClusteringConfig = ClusteringConfig()
    alignment: AlignmentConfig = AlignmentConfig()
    adaptive: AdaptiveConfig = AdaptiveConfig()

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        if self.kind == "lora" and self.clustering.enabled and self.start != "gaussian":
            raise ValueError(f"start '{self.start}' is a control for clustering; set clustering.enabled to false")
        return self

    @property
    def scaling(self) -> float:
        """The factor alpha / rank of the low-rank product (Hu et al., 2022, section 4.1)."""
        return 1.0 if self.alpha is None else self.alpha / self.rank

    @property
    def clusters(self) -> int:
        """The number of clusters K that is in force."""
        return self.clustering.clusters or self.rank


class TrainingAttackConfig(Section):
    """The threat that the trial trains against, in pixel space [0, 1]."""

    kind: Literal["none", "fgsm_rs", "n_fgsm", "pgd"] = "pgd"
    """`none`: clean training. `fgsm_rs`: Wong et al. 2020. `n_fgsm`: de Jorge et al. 2022.
    `pgd`: Madry et al. 2018."""
    norm: Literal["linf", "l2"] = "linf"
    epsilon: Annotated[Ratio, Field(ge=0)] = 8 / 255
    """Radius: at most 1 for L-inf; in L2 the length of the perturbation of one image."""
    steps: Count = 2
    """Gradient steps of PGD; the one-step attacks ignore it."""
    step_size: Annotated[Ratio, Field(gt=0)] | None = None
    """None means the attack's standard: 1.25 epsilon (FGSM-RS), epsilon (N-FGSM), 2.5 epsilon / steps (PGD,
    at most epsilon)."""
    random_start: bool = True

    @model_validator(mode="after")
    def _epsilon_fits_norm(self) -> Self:
        if self.norm == "linf" and self.epsilon > 1:
            raise ValueError(
                f"epsilon {self.epsilon:g} is larger than the whole pixel range [0, 1]; write it as a fraction, "
                f"such as '{self.epsilon:g}/255'"
            )
        return self


class LossConfig(Section):
    """What the adapted model is trained to do."""

    kind: Literal["cross_entropy", "contrastive", "fare"] = "cross_entropy"
    """`cross_entropy`: against the text features of the classes (TeCoA, Mao et al. 2023). `contrastive`: against
    the captions of the batch, same-caption pairs as positives. `fare`: keep the clean embedding of the pretrained
    model, without labels (Schlarmann et al. 2024)."""


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


class TrialConfig(Section):
    """Everything that determines the numbers of one trial, besides the evaluation protocol."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    adapter: AdapterConfig = AdapterConfig()
    attack: TrainingAttackConfig = TrainingAttackConfig()
    loss: LossConfig = LossConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    precision: Literal["fp32", "bf16"] = "fp32"
    """Precision of training; evaluation is always fp32."""
    seed: Annotated[int, Field(ge=0)] = 0
    resources: ResourcesConfig = ResourcesConfig()
