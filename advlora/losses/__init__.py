"""What the adapted model is trained to do, per sample; the attacker maximises the same, or a part of it."""

from advlora.losses.base import Loss, Step
from advlora.losses.build import build_loss
from advlora.losses.captions import Contrastive
from advlora.losses.classes import ClassCrossEntropy, PretrainedGuided, Trades
from advlora.losses.cleaning import CleanClip, PerturbAndRecover
from advlora.losses.encoder import Encoder
from advlora.losses.fare import Fare
from advlora.losses.matching import Matching

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
