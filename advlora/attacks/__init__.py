"""Attacks in pixel space [0, 1]: for training, and for examination."""

from advlora.attacks.examination import withstands
from advlora.attacks.gradient import fgsm_rs, n_fgsm, pgd
from advlora.attacks.threat import Threat, check_range
from advlora.attacks.training import attack, gradient_steps
from advlora.attacks.universal import UniversalPerturbation

__all__ = [
    "Threat",
    "UniversalPerturbation",
    "attack",
    "check_range",
    "fgsm_rs",
    "gradient_steps",
    "n_fgsm",
    "pgd",
    "withstands",
]
