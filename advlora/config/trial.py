"""`TrialConfig`: the one schema of a trial. What is not named here cannot be varied."""

from __future__ import annotations

import math
from typing import Any, Literal, Self

from pydantic import field_validator, model_validator

from advlora.config.adapters import AdapterConfig, LoraAdapter
from advlora.config.base import Count, Positive, Section, Seed, Share, Text, Weight
from advlora.config.losses import CrossEntropyConfig, LossConfig
from advlora.config.poison import NoPoisonConfig, PoisonConfig
from advlora.config.training_attacks import AnyTrainingAttack, TrainPgd

Precision = Literal["fp32", "tf32", "bf16"]
"""Of training. `bf16`: the passes of the towers under autocast, all else in true float32."""

SMALLEST_SHARE = 1e-4
"""Of a GPU, below which Ray does not count."""

LOCAL = "local-dir:"
"""Begins the name of a model that lies in a folder."""
HUB = "hf-hub:"
"""Begins the name of a model of open_clip that lies on the hub, with its own configuration."""


class ModelConfig(Section):
    """The pretrained model that is adapted."""

    source: Literal["embedded", "open_clip", "transformers"] = "embedded"
    """`embedded`: shipped in the package. `open_clip`: by architecture name and pretrained tag or file.
    `transformers`: CLIP, SigLIP or BLIP image-text retrieval by the hub's name."""
    name: Text = "tiny-clip"
    """Embedded name, open_clip architecture (`ViT-B-32`), name on the hub (`Salesforce/blip-itm-base-coco`), or
    `local-dir:PATH` of a folder of the source's library; for open_clip also `hf-hub:NAME` of a model on the hub in its
    layout. In paths, `~` and environment variables count."""
    pretrained: Text | None = None
    """open_clip tag or checkpoint file, or revision on the hub; None for a `local-dir:` folder, an embedded model, or
    the newest revision."""


class DataSetConfig(Section):
    """A data set, and what stands in for its own class names and captions."""

    name: Text
    """Name of an embedded data set, or the path of a folder that holds a `dataset.json` or what `layout` says."""
    layout: Literal["auto", "shards", "karpathy", "folders", "torchvision", "msrvtt"] = "auto"
    """`auto`: by what the folder holds. `shards`: WebDataset archives and `dataset.json`. `karpathy`: Flickr30k or
    MSCOCO with Karpathy's JSON. `folders`: a folder per class and `prompts.txt`. `torchvision`: a folder that it makes,
    such as `flowers-102`. `msrvtt`: videos or their frames and `MSRVTT_data.json`."""
    classes: Literal["openai-imagenet"] | None = None
    """Names that stand in for the data set's own, in the order of the labels. `openai-imagenet`: open_clip's 1,000 of
    ImageNet, whose folders are in this order when they are sorted by their codes."""
    templates: Literal["openai", "simple"] | None = None
    """Captions of a class that stand in for the data set's own: open_clip's 80 (`openai`) or 7 (`simple`)."""
    store: Literal["memory", "disk"] = "memory"
    """`disk`: for sets that memory does not hold. Decoded once into `ADVLORA_CACHE` (`~/.cache/advlora`), shared by all
    processes that see it, and mapped from there. A poisoned training set lies in memory all the same."""


class DataConfig(DataSetConfig):
    """The data set of a trial; its manifest names shards, classes, templates and splits."""

    name: Text = "fashion-mnist"
    frames: Count = 8
    """Frames of a video, sampled uniformly."""
    poison: PoisonConfig = NoPoisonConfig()
    """The backdoor of the data set."""
    train_samples: Count | None = None
    """How many training samples are used (the first of the split); None for all."""


class OptimiserConfig(Section):
    """AdamW with warm-up and cosine decay."""

    learning_rate: Positive = 2e-3
    """Peak learning rate of AdamW."""
    weight_decay: Weight = 0.0
    """Weight decay of AdamW."""
    batch_size: Count = 64
    """Training images per step."""
    epochs: Count = 3
    """Passes over the training set."""
    warmup: Share = 0.1
    """Share of all steps in which the learning rate rises linearly."""
    clip_norm: Positive = 1.0
    """Largest norm of the gradient of a step."""


class ResourcesConfig(Section):
    """What one trial occupies."""

    workers: Count = 1
    """Processes of the Ray Train group (data-parallel)."""
    cpus_per_worker: Count = 1
    """CPU cores, and torch threads, of each worker."""
    gpus_per_worker: Weight = 0
    """Whole GPUs, or a fraction of one, which several trials then share; several workers of a trial need whole ones."""
    memory_gb_per_worker: Positive = 1.0
    """Main memory that a worker is expected to need; bounds how many trials run at once."""

    @field_validator("gpus_per_worker")
    @classmethod
    def _whole_or_a_part_of_one(cls, gpus: float) -> float:
        if gpus > 1 and not gpus.is_integer():
            raise ValueError(
                f"{gpus:g} is not allowed: a worker takes whole GPUs, or a fraction of one; "
                f"use {math.floor(gpus)} or {math.ceil(gpus)}"
            )
        if 0 < gpus < SMALLEST_SHARE:
            raise ValueError(f"{gpus:g} is not allowed: Ray shares a GPU among at most {1 / SMALLEST_SHARE:g} workers")
        return gpus

    @model_validator(mode="after")
    def _a_gpu_for_each_worker(self) -> Self:
        if self.workers > 1 and 0 < self.gpus_per_worker < 1:
            raise ValueError(
                f"gpus_per_worker: {self.gpus_per_worker:g} does not go with workers: {self.workers}, for NCCL refuses "
                "two processes on one GPU; set it to 1, or workers to 1"
            )
        return self


class TrialConfig(Section):
    """Everything that determines the numbers of one trial, besides the evaluation protocol."""

    model: ModelConfig = ModelConfig()
    """The pretrained model."""
    data: DataConfig = DataConfig()
    """The data set."""
    adapter: AdapterConfig = LoraAdapter()
    """What is trained, and how it starts."""
    attack: AnyTrainingAttack = TrainPgd()
    """What the model is trained against."""
    loss: LossConfig = CrossEntropyConfig()
    """What it is trained to do."""
    optimiser: OptimiserConfig = OptimiserConfig()
    """How it is trained."""
    precision: Precision = "fp32"
    """Precision of training; evaluation is always true float32. `tf32`: matrix products and convolutions on the tensor
    cores of a GPU, their inputs rounded. `bf16`: the towers under autocast."""
    deterministic: bool = True
    """Whether training repeats to the bit. `false` lets a GPU take faster kernels that add in no fixed order, so it
    makes another trial; evaluation is deterministic all the same."""
    seed: Seed = 0
    """Seed of all that a trial draws."""
    resources: ResourcesConfig = ResourcesConfig()
    """What a trial occupies."""

    def identity(self) -> dict[str, Any]:
        """Returns what the numbers of the trial depend on, as plain data.

        Memory, cores and devices change no number, nor does where images are kept; where nothing is trained, neither
        does how it would be. The number of workers does, by the order in which gradients are summed.
        """
        identity = self.model_dump(exclude={"resources": set(ResourcesConfig.model_fields) - {"workers"}})
        del identity["data"]["store"]
        if not self.adapter.trains:
            for untouched in ("attack", "loss", "optimiser", "precision", "deterministic"):
                del identity[untouched]
        return identity

    @model_validator(mode="after")
    def _possible_together(self) -> Self:
        adapter, loss, attack = self.adapter, self.loss, self.attack
        if adapter.tower != "vision" and loss.trains_images_only:
            raise ValueError(
                f"loss.kind: '{loss.kind}' trains image embeddings only, but adapter.tower is '{adapter.tower}'; "
                "set it to 'vision'"
            )
        if loss.needs_random_start and attack.starts_clean:
            raise ValueError(f"attack.random_start: {loss.title} has no gradient at the clean image; set it to true")
        if self.precision == "tf32" and not self.resources.gpus_per_worker:
            raise ValueError(
                "precision: 'tf32' has no effect without a GPU; set resources.gpus_per_worker, or use 'fp32'"
            )
        return self
