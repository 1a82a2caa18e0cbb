"""`TrialConfig`: the one schema of a trial. What is not named here cannot be varied."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from advlora.config.adapters import AdapterConfig, LoraAdapter
from advlora.config.base import Count, Positive, Ratio, Section, Share

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


class PoisonConfig(Section):
    """A backdoor: a trigger in some training images. With rate 0 only its success is measured."""

    kind: Literal["none", "badnets", "blended", "stripe", "triangle", "label_consistent"] = "none"
    rate: Share = 0.01
    """Share of the training set that is poisoned; of the target class for `label_consistent`."""
    target: str = ""
    """Name of the class that the trigger stands for."""
    size: Annotated[float, Field(gt=0, le=0.5)] = 0.15
    """Side of a patch, as a share of the image's."""
    opacity: Share = 0.2
    """How much of a pattern over the whole image is seen."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the trigger's pattern and of which samples are poisoned."""


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
    poison: PoisonConfig = PoisonConfig()
    train_samples: Count | None = None
    """How many training samples are used (the first of the split); None for all."""


class OverfittingConfig(Section):
    """Watch for catastrophic overfitting, after every epoch of training with a one-step attack."""

    check: bool = True
    """Whether one-step training is watched; training with several steps never is."""
    steps: Count = 10
    """Of the PGD that the one-step attack is compared with."""
    samples: Count = 100
    """How many images of `val` are attacked (the first ones)."""
    drop: Share = 0.7
    """Share of the accuracy under the one-step attack that may vanish under PGD."""
    action: Literal["none", "stop", "switch"] = "none"
    """What follows. `none`: it is logged. `stop`: training ends with the epoch before. `switch`: it goes on with PGD,
    of `attack.steps` steps."""


class TrainingAttackConfig(Section):
    """The threat that the trial trains against, in pixel space [0, 1]."""

    kind: Literal["none", "fgsm_rs", "n_fgsm", "pgd", "universal"] = "pgd"
    """`none`: clean training. `fgsm_rs`: Wong et al. 2020. `n_fgsm`: de Jorge et al. 2022.
    `pgd`: Madry et al. 2018. `universal`: one perturbation for all images (AdvCLIP-LoRA, Ghiasvand et al. 2025)."""
    norm: Literal["linf", "l2"] = "linf"
    epsilon: Annotated[Ratio, Field(ge=0)] = 8 / 255
    """Radius: at most 1 for L-inf; in L2 the length of the perturbation of one image."""
    steps: Count = 2
    """Gradient steps of PGD, or of the universal perturbation per batch; the one-step attacks ignore it."""
    step_size: Annotated[Ratio, Field(gt=0)] | None = None
    """None means the attack's standard: 1.25 epsilon (FGSM-RS), epsilon (N-FGSM), 2.5 epsilon / steps (PGD and
    universal, at most epsilon)."""
    random_start: bool = True
    overfitting: OverfittingConfig = OverfittingConfig()

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

    kind: Literal["cross_entropy", "contrastive", "fare", "trades", "pmg_aft", "itm", "cleanclip", "par"] = (
        "cross_entropy"
    )
    """`cross_entropy`: against the text features of the classes (TeCoA, Mao et al. 2023). `contrastive`: against
    the captions of the batch, same-caption pairs as positives; in both directions where the text tower is trained.
    `fare`: keep the clean embedding of the pretrained model, without labels (Schlarmann et al. 2024). `trades`: Zhang
    et al. 2019. `pmg_aft`: guided by the pretrained model (Wang et al. 2024). `itm`: image-text matching (BLIP).
    Contrastive, and made to clean a poisoned model: `cleanclip` (Bansal et al. 2023), `par` (Singh et al. 2024)."""
    beta: Annotated[float, Field(ge=0)] = 6.0
    """TRADES: weight of the divergence."""
    teacher_weight: Annotated[float, Field(ge=0)] = 1.0
    """PMG-AFT: weight of the divergence from the pretrained model."""
    clean_weight: Annotated[float, Field(ge=0)] = 1.0
    """PMG-AFT: weight of the divergence from the clean image."""
    itm: Annotated[float, Field(ge=0)] = 0.0
    """Contrastive: weight of an image-text matching loss beside it (BLIP)."""
    self_weight: Annotated[float, Field(ge=0)] = 1.0
    """CleanCLIP: weight of the loss between images and their augmented views."""
    push_weight: Annotated[float, Field(ge=0)] = 0.5
    """PAR: weight of the distance to the poisoned model's embedding."""
    push_until: Annotated[float, Field(gt=0, le=4)] = 1.0
    """PAR: squared distance of unit embeddings beyond which an image is pushed no further."""

    @model_validator(mode="after")
    def _itm_beside_contrastive(self) -> Self:
        if self.itm and self.kind != "contrastive":
            raise ValueError(f"itm is a weight beside the contrastive loss, not beside '{self.kind}'")
        return self

    @property
    def matches(self) -> bool:
        """Whether the loss needs an image-text matching head."""
        return self.kind == "itm" or self.itm > 0


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
    adapter: AdapterConfig = LoraAdapter()
    attack: TrainingAttackConfig = TrainingAttackConfig()
    loss: LossConfig = LossConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    precision: Literal["fp32", "bf16"] = "fp32"
    """Precision of training; evaluation is always fp32."""
    seed: Annotated[int, Field(ge=0)] = 0
    resources: ResourcesConfig = ResourcesConfig()

    def identity(self) -> dict[str, Any]:
        """Returns what the numbers of the trial depend on, as plain data.

        Memory, cores and devices change no number, nor does where images are kept; where nothing is trained, neither
        does how it would be. The number of workers does, by the order in which gradients are summed.
        """
        identity = self.model_dump(exclude={"resources": set(ResourcesConfig.model_fields) - {"workers"}})
        del identity["data"]["store"]
        if not self.adapter.trains:
            for untouched in ("attack", "loss", "optimiser", "precision"):
                del identity[untouched]
        return identity

    @model_validator(mode="after")
    def _possible_together(self) -> Self:
        adapter, loss, attack = self.adapter, self.loss, self.attack
        if adapter.tower == "text" and loss.kind in ("fare", "cleanclip", "par"):
            raise ValueError(f"loss.kind: '{loss.kind}' trains image embeddings, but adapter.tower is 'text'")
        if loss.kind == "trades" and attack.kind in ("pgd", "universal") and not attack.random_start:
            raise ValueError("attack.random_start: from the clean image the loss of TRADES has no gradient; set it")
        return self
