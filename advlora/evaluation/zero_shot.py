"""Zero-shot classification: a class is the mean of the unit embeddings of its captions (Radford et al. 2021)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor
from torch.nn.functional import normalize

from advlora.data import Manifest


def class_captions(manifest: Manifest) -> tuple[str, ...]:
    """Returns every template filled with every class, class by class."""
    return tuple(caption for label in range(len(manifest.classes)) for caption in manifest.captions(label))


def class_features(unit: Tensor, manifest: Manifest) -> Tensor:
    """Returns `(C, D)`, unit length: per class the mean over the templates of the unit text features.

    Args:
        unit: Unit features of `class_captions`, `(C * templates, D)`.
        manifest: Classes and templates.
    """
    return normalize(unit.view(len(manifest.classes), -1, unit.shape[1]).mean(1), dim=-1)


def live_class_features(embed: Callable[[Sequence[str]], Tensor], manifest: Manifest) -> Tensor:
    """Returns the class features of a text tower as it is now; `embed` maps captions to `(N, D)`."""
    return class_features(normalize(embed(class_captions(manifest)).float(), dim=-1), manifest)
