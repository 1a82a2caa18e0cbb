"""Attack success rate of a backdoor: how many images the trigger turns into the target class."""

from __future__ import annotations

import torch

from advlora.attacks import finite
from advlora.config import BackdoorConfig
from advlora.data import ImageTextSet
from advlora.data.poisoning import stamp
from advlora.distributed import SOLO, Group
from advlora.evaluation.zero_shot import ZeroShotClassifier


@torch.no_grad()
def attack_success_rate(
    classifier: ZeroShotClassifier,
    data: ImageTextSet,
    poison: BackdoorConfig,
    target: int,
    *,
    batch_size: int,
    group: Group = SOLO,
) -> float:
    """Returns the share of images of other classes that are called the target once they carry the trigger, in [0, 1].

    Args:
        classifier: The model.
        data: The examples.
        poison: The trigger.
        target: The class that the trigger stands for.
        batch_size: Images at a time.
        group: The processes that share the work.

    Raises:
        NotFinite: If an image's logits are not finite.
    """
    others = (data.labels != target).nonzero()[:, 0]
    fooled = torch.zeros(1, device=classifier.device)
    for batch in group.batches(len(others), batch_size):
        images = stamp(data.images[others[batch]], poison).to(classifier.device).float() / 255
        similarity = finite(classifier.features(images) @ classifier.class_features.T, "logits")  # (B, C)
        fooled += (similarity.argmax(1) == target).sum()
    return float(group.sum(fooled)) / max(len(others), 1)
