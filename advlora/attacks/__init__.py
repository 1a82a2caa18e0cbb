"""Attacks in pixel space [0, 1]: for training, and for evaluation."""

from importlib import import_module
from pkgutil import iter_modules

from advlora.attacks.case import Case, Classifier, probe
from advlora.attacks.ensembles import expanded, labels, misfits, needs_surrogate, runnable
from advlora.attacks.evaluation import withstands
from advlora.attacks.finite import Watched, finite
from advlora.attacks.gradient import fgsm_rs, n_fgsm, pgd
from advlora.attacks.objectives import margin, objective
from advlora.attacks.threat import Threat, check_range
from advlora.attacks.training import Batch, Epoch, attack

# Every module of the package registers what it runs; see `registry`.
for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = [
    "Batch",
    "Case",
    "Classifier",
    "Epoch",
    "Threat",
    "Watched",
    "attack",
    "check_range",
    "expanded",
    "fgsm_rs",
    "finite",
    "labels",
    "margin",
    "misfits",
    "n_fgsm",
    "needs_surrogate",
    "objective",
    "pgd",
    "probe",
    "runnable",
    "withstands",
]
