"""What the adapted model is trained to do, per sample; the attacker maximises the same, or a part of it."""

from advlora.losses.base import Loss, Step
from advlora.losses.build import build_loss
from advlora.losses.encoder import Encoder

__all__ = ["Encoder", "Loss", "Step", "build_loss"]
