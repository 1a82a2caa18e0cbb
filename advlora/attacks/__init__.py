"""Attacks in pixel space [0, 1]: for training, and for evaluation."""

from advlora.attacks.case import Case, Classifier, probe
from advlora.attacks.ensembles import applicable, expanded, labels, misfits, needs_surrogate
from advlora.attacks.evaluation import withstands
from advlora.attacks.gradient import fgsm_rs, n_fgsm, pgd
from advlora.attacks.objectives import margin, objective
from advlora.attacks.threat import Threat, check_range
from advlora.attacks.training import attack, gradient_steps
from advlora.attacks.universal import UniversalPerturbation

__all__ = [
    "Case",
    "Classifier",
    "Threat",
    "UniversalPerturbation",
    "applicable",
    "attack",
    "check_range",
    "expanded",
    "fgsm_rs",
    "gradient_steps",
    "labels",
    "margin",
    "misfits",
    "n_fgsm",
    "needs_surrogate",
    "objective",
    "pgd",
    "probe",
    "withstands",
]
