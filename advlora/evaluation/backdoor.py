"""Attack success rate of a backdoor: how many images the trigger turns into the target class."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from advlora.config import BackdoorConfig
from advlora.data import ImageTextSet, Manifest
from advlora.data.poisoning import stamp, target_class
from advlora.distributed import SOLO, Group
from advlora.models import VisionLanguageModel


@torch.no_grad()
def attack_success_rate(
    model: VisionLanguageModel,
    class_features: Tensor,
    data: ImageTextSet,
    poison: BackdoorConfig,
    manifest: Manifest,
    *,
    batch_size: int,
    device: torch.device,
    group: Group = SOLO,
) -> float:
    """Returns the share of images of other classes that are called the target once they carry the trigger, in [0, 1].

    Args:
        model: On `device`.
        class_features: `(C, D)`, unit length, on `device`.
        data: The examples.
        poison: Trigger and target.
        manifest: Names the classes.
        batch_size: Images at a time.
        device: Where to compute.
        group: The processes that share the work.
    """
    target = target_class(poison, manifest)
    others = (data.labels != target).nonzero()[:, 0]
    fooled = torch.zeros(1, device=device)
    for places in torch.split(others, batch_size)[group.rank :: group.world_size]:
        images = stamp(data.images[places], poison).to(device).float() / 255
        logits = normalize(model.encode_images(images), dim=-1) @ class_features.T
        fooled += (logits.argmax(1) == target).sum()
    return float(group.sum(fooled)) / max(len(others), 1)
