"""What the adapted model is trained to do, per sample; the attacker maximises the same, or a part of it."""

from advlora.losses.base import Loss, Step
from advlora.losses.build import build_loss
from advlora.losses.captions import Contrastive, Matching
from advlora.losses.classes import ClassCrossEntropy, PretrainedGuided, Trades
from advlora.losses.cleaning import CleanClip, PerturbAndRecover
from advlora.losses.encoder import Encoder
from advlora.losses.fare import Fare

__all__ = [
    "ClassCrossEntropy",
    "CleanClip",
    "Contrastive",
    "Encoder",
    "Fare",
    "Loss",
    "Matching",
    "PerturbAndRecover",
    "PretrainedGuided",
    "Step",
    "Trades",
    "build_loss",
]
