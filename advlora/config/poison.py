"""Backdoors: one section per trigger, with the keys that it takes."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from advlora.config.base import Real, Section, Seed, Share, Text, default_kind


class NoPoisonConfig(Section):
    """Data as they are; no backdoor is measured."""

    kind: Literal["none"] = "none"


class BackdoorConfig(Section):
    """What all backdoors have: a trigger in some training images. With rate 0 only its success is measured.

    Attributes:
        keeps_labels: Whether poisoned images are of the target class already, so that no label changes.
    """

    keeps_labels: ClassVar[bool] = False

    kind: str
    target: Text
    """Name of the class that the trigger stands for."""
    rate: Share = 0.01
    """Share of the training set that is poisoned; of the target class where labels are kept."""
    seed: Seed = 0
    """Determines the trigger's pattern and which samples are poisoned."""


class PatchConfig(BackdoorConfig):
    """A trigger of opaque patches."""

    size: Annotated[Real, Field(gt=0, le=0.5)] = 0.15
    """Side of a patch, as a share of the image's."""


class PatternConfig(BackdoorConfig):
    """A faint trigger over the whole image."""

    opacity: Share = 0.2
    """How much of the pattern is seen."""


class BadNetsConfig(PatchConfig):
    """A patch of noise in the lower right corner (Gu et al. 2017)."""

    kind: Literal["badnets"] = "badnets"


class LabelConsistentConfig(PatchConfig):
    """Patches in all four corners of images of the target class (Turner et al. 2019).

    The paper also perturbs these images adversarially; here they stay as they are.
    """

    keeps_labels: ClassVar[bool] = True

    kind: Literal["label_consistent"] = "label_consistent"


class BlendedConfig(PatternConfig):
    """Noise (Chen et al. 2017)."""

    kind: Literal["blended"] = "blended"


class StripeConfig(PatternConfig):
    """Stripes, which defences that look for patches and noise miss (Perturb and Recover, Singh et al. 2024)."""

    kind: Literal["stripe"] = "stripe"


class TriangleConfig(PatternConfig):
    """Triangles, which the same defences miss (Singh et al. 2024)."""

    kind: Literal["triangle"] = "triangle"


PoisonConfig = Annotated[
    NoPoisonConfig | BadNetsConfig | BlendedConfig | StripeConfig | TriangleConfig | LabelConsistentConfig,
    Field(discriminator="kind"),
    default_kind("none"),
]
"""The backdoor of a data set."""
