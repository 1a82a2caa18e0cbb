"""Losses: one section per method, with its keys, what it costs, and what it needs of model, data and attack."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from advlora.config.base import Positive, Real, Section, Weight, default_kind, given
from advlora.config.schema import kinds, sections

Negatives = Literal["sampled", "hardest"]
"""How a pair that does not match is chosen in a batch: drawn by the softmax of similarities, or the most similar."""


class BaseLossConfig(Section):
    """What a loss says of itself, besides its keys.

    Attributes:
        title: What the literature calls it.
        needs_classes: Whether it compares images with the classes of the data set.
        needs_stills: Whether it takes images only, no videos.
        needs_random_start: Whether it has no gradient at the clean image, so that the attack must start elsewhere.
        needs_bias: Whether it takes the bias that a model adds to its logits.
        needs_originals: Whether it asks the pretrained model for its opinion in every step.
        trains_images_only: Whether it is a loss of image embeddings against fixed ones, so that a text tower learns
            nothing from it.
        once_forwards: Cost per image before the first step, in F, a forward pass of the vision tower.
    """

    title: ClassVar[str]
    needs_classes: ClassVar[bool] = False
    needs_stills: ClassVar[bool] = False
    needs_random_start: ClassVar[bool] = False
    needs_bias: ClassVar[bool] = False
    needs_originals: ClassVar[bool] = False
    trains_images_only: ClassVar[bool] = False
    once_forwards: ClassVar[int] = 0

    @property
    def matches(self) -> bool:
        """Whether the loss needs an image-text matching head."""
        return False

    def extra_forwards(self, update: int) -> int:
        """Returns what a step costs in addition to the pass of the attacked images, per image in F.

        Text towers are not counted: F is a pass of the vision tower.

        Args:
            update: The cost of a pass with the gradient of the update.
        """
        return int(self.matches)  # the search for negatives


class CrossEntropyConfig(BaseLossConfig):
    """Cross-entropy against the text features of the classes (TeCoA, Mao et al. 2023)."""

    title: ClassVar[str] = "TeCoA"
    needs_classes: ClassVar[bool] = True

    kind: Literal["cross_entropy"] = "cross_entropy"


class TradesConfig(BaseLossConfig):
    """Cross-entropy of the clean images, and the divergence of the attacked ones from them (Zhang et al. 2019)."""

    title: ClassVar[str] = "TRADES"
    needs_classes: ClassVar[bool] = True
    needs_random_start: ClassVar[bool] = True

    kind: Literal["trades"] = "trades"
    beta: Weight = 6.0
    """Weight of the divergence."""

    def extra_forwards(self, update: int) -> int:
        """Clean images pass without gradient before the attack, and with it in the update."""
        return 1 + update


class PmgAftConfig(BaseLossConfig):
    """Cross-entropy guided by the pretrained model (PMG-AFT, Wang et al. 2024).

    The defaults are the authors' code, which differs from the paper's equations.
    """

    title: ClassVar[str] = "PMG-AFT"
    needs_classes: ClassVar[bool] = True
    needs_originals: ClassVar[bool] = True

    kind: Literal["pmg_aft"] = "pmg_aft"
    teacher_weight: Weight = 1.0
    """Weight of the divergence from the pretrained model."""
    clean_weight: Weight = 1.0
    """Weight of the divergence from the clean image."""
    divergence: Literal["forward", "reverse"] = "forward"
    """KL(reference, attacked) as in the authors' code, or KL(attacked, reference) as in the paper."""
    reduction: Literal["sum", "mean"] = "sum"
    """Whether divergences are added up over a batch, as in the authors' code, or averaged as the cross-entropy is."""
    logit_scale: Positive | None = 1.0
    """What multiplies cosines: 1 in the authors' code; None for the model's own scale."""

    def extra_forwards(self, update: int) -> int:
        """Attacked images also pass the teacher, and clean ones the model, with gradient."""
        return 1 + update


class FareConfig(BaseLossConfig):
    """Keeps the clean embedding of the pretrained model, without labels (FARE, Schlarmann et al. 2024)."""

    title: ClassVar[str] = "FARE"
    trains_images_only: ClassVar[bool] = True
    once_forwards: ClassVar[int] = 1

    kind: Literal["fare"] = "fare"


class ContrastiveConfig(BaseLossConfig):
    """Against the captions of the batch, in both directions where the text tower is trained.

    Pairs that share a caption are all positives.
    """

    title: ClassVar[str] = "Contrastive"

    kind: Literal["contrastive"] = "contrastive"
    itm: Weight = 0.0
    """Weight of an image-text matching loss that is added (BLIP)."""
    negatives: Negatives = "sampled"
    """How its negatives are chosen."""

    @model_validator(mode="after")
    def _negatives_are_matched(self) -> Self:
        if not self.matches and given(self, "negatives"):
            raise ValueError("negatives belongs to image-text matching, and has no effect with itm: 0; leave it out")
        return self

    @property
    def matches(self) -> bool:
        """See the base class."""
        return self.itm > 0


class SigmoidConfig(BaseLossConfig):
    """Every image with every caption of the batch, as a question of yes or no, as SigLIP was trained.

    For models with a bias of their logits.
    """

    title: ClassVar[str] = "SigLIP"
    needs_bias: ClassVar[bool] = True

    kind: Literal["sigmoid"] = "sigmoid"


class MatchingConfig(BaseLossConfig):
    """Image-text matching alone (ITM, BLIP, Li et al. 2022)."""

    title: ClassVar[str] = "Image-text matching"

    kind: Literal["itm"] = "itm"
    negatives: Negatives = "sampled"
    """How its negatives are chosen."""

    @property
    def matches(self) -> bool:
        """See the base class."""
        return True


class CleanClipConfig(BaseLossConfig):
    """Contrastive, and made to clean a poisoned model (CleanCLIP, Bansal et al. 2023)."""

    title: ClassVar[str] = "CleanCLIP"
    needs_stills: ClassVar[bool] = True
    trains_images_only: ClassVar[bool] = True

    kind: Literal["cleanclip"] = "cleanclip"
    self_weight: Weight = 1.0
    """Weight of the loss between images and their augmented views."""

    def extra_forwards(self, update: int) -> int:
        """Views pass with gradient."""
        return update


class ParConfig(BaseLossConfig):
    """Contrastive, and made to clean a poisoned model (Perturb and Recover, Singh et al. 2024)."""

    title: ClassVar[str] = "PAR"
    trains_images_only: ClassVar[bool] = True
    once_forwards: ClassVar[int] = 1

    kind: Literal["par"] = "par"
    push_weight: Weight = 0.5
    """Weight of the distance to the poisoned model's embedding."""
    push_until: Annotated[Real, Field(gt=0, le=4)] = 1.0
    """Squared distance of unit embeddings beyond which an image is pushed no further."""


LossConfig = Annotated[
    CrossEntropyConfig
    | ContrastiveConfig
    | SigmoidConfig
    | FareConfig
    | TradesConfig
    | PmgAftConfig
    | MatchingConfig
    | CleanClipConfig
    | ParConfig,
    Field(discriminator="kind"),
    default_kind("cross_entropy"),
]
"""What the adapted model is trained to do."""

LOSSES = {kind: loss for kind, loss in kinds(sections(LossConfig)).items() if issubclass(loss, BaseLossConfig)}
"""Kind -> section."""


def no_bias(kind: str, model: str) -> str:
    """Says that a loss with a bias of the logits does not fit a model without one."""
    return (
        f"loss.kind: '{kind}' needs a model with a bias of its logits, such as SigLIP, but '{model}' has none; "
        "use 'contrastive'"
    )


def no_classes(kind: str, data: str) -> str:
    """Says that a loss against classes does not fit a data set for retrieval."""
    others = [f"'{other}'" for other, loss in LOSSES.items() if not loss.needs_classes]
    return (
        f"loss.kind: '{kind}' needs classes, but data set '{data}' has captions only; "
        f"use {', '.join(others[:-1])} or {others[-1]}"
    )
