"""From the attacks of a protocol to those that are run: ensembles become their parts."""

from __future__ import annotations

from collections.abc import Iterable

from advlora.config import EvaluationAttackConfig, EvaluationProtocol
from advlora.config.attack_base import STANDARD, RetrievalAttack
from advlora.errors import ConfigError


def expanded(attacks: Iterable[EvaluationAttackConfig]) -> tuple[EvaluationAttackConfig, ...]:
    """Replaces every ensemble by its parts."""
    return tuple(part for attack in attacks for part in attack.parts())


def runnable(attacks: Iterable[EvaluationAttackConfig], classes: int) -> tuple[EvaluationAttackConfig, ...]:
    """Expands ensembles and leaves out what needs more classes than there are.

    Raises:
        ConfigError: If nothing is left, or an attack aims at captions.
    """
    attacks = tuple(attacks)
    if problems := misfits(attacks, classes):
        raise ConfigError(problems)
    return _kept(expanded(attacks), classes)


def misfits(attacks: Iterable[EvaluationAttackConfig], classes: int) -> list[str]:
    """Returns one sentence per reason why attacks cannot be run on a classifier of `classes` classes."""
    attacks = tuple(attacks)
    parts = expanded(attacks)
    problems = [
        f"protocol.attacks: '{kind}' aims at captions, but the data set has classes; use 'pgd' or 'apgd-ce'"
        for kind in dict.fromkeys(part.kind for part in parts if "classes" not in part.aims)
    ]
    problems += [
        f"protocol.attacks: direction '{way}' of '{attack.kind}' has no effect on classes; leave it out"
        for attack in attacks
        if isinstance(attack, RetrievalAttack) and (way := attack.direction) != STANDARD
    ]
    if not _kept(parts, classes):
        names, fewest = ", ".join(part.kind for part in parts), min(part.fewest_classes for part in parts)
        problems.append(
            f"protocol.attacks: {names} need {fewest} classes, but the data set has {classes}; "
            "add an attack such as apgd-ce"
        )
    return problems


def _kept(parts: Iterable[EvaluationAttackConfig], classes: int) -> tuple[EvaluationAttackConfig, ...]:
    return tuple(part for part in parts if classes >= part.fewest_classes)


def needs_surrogate(protocol: EvaluationProtocol) -> bool:
    """Returns whether an attack follows the gradients of the pretrained model."""
    return any(attack.transferred for attack in protocol.attacks)


def labels(attacks: Iterable[EvaluationAttackConfig]) -> tuple[str, ...]:
    """Names every attack by its label; the second of the same label gets a number."""
    names: list[str] = []
    for attack in attacks:
        seen = sum(name == attack.label or name.startswith(f"{attack.label} (") for name in names)
        names.append(attack.label if not seen else f"{attack.label} ({seen + 1})")
    return tuple(names)
