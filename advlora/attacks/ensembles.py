"""From the attacks of a protocol to those that are run: ensembles become their parts."""

from __future__ import annotations

from collections.abc import Iterable

from advlora.config import CAPTION_KINDS, EvaluationAttackConfig, EvaluationProtocol
from advlora.errors import ConfigError

ENSEMBLES: dict[str, tuple[dict[str, str | int], ...]] = {
    "autoattack": ({"kind": "apgd-ce"}, {"kind": "apgd-t"}, {"kind": "fab-t"}, {"kind": "square"}),
    "autoattack-plus": (
        {"kind": "apgd-ce", "restarts": 5},
        {"kind": "apgd-dlr", "restarts": 5},
        {"kind": "fab", "restarts": 5},
        {"kind": "square"},
        {"kind": "apgd-t"},
        {"kind": "fab-t"},
    ),
}
"""AutoAttack's versions `standard` and `plus` (Croce & Hein 2020, section 5 and the authors' code)."""
FEWEST_CLASSES = 3
"""The losses of the DLR family divide by the lead over the third class."""


def expanded(attacks: Iterable[EvaluationAttackConfig]) -> tuple[EvaluationAttackConfig, ...]:
    """Replaces every ensemble by its parts."""
    parts: list[EvaluationAttackConfig] = []
    for attack in attacks:
        members = ENSEMBLES.get(attack.kind)
        built = [EvaluationAttackConfig.model_validate({**part, "norm": attack.norm}) for part in members or ()]
        parts += [attack] if members is None else built
    return tuple(parts)


def applicable(attacks: Iterable[EvaluationAttackConfig], classes: int) -> tuple[EvaluationAttackConfig, ...]:
    """Expands ensembles and leaves out what cannot be run with so few classes.

    Raises:
        ConfigError: If nothing is left, or an attack aims at captions.
    """
    attacks = tuple(attacks)
    if problems := misfits(attacks, classes):
        raise ConfigError(problems)
    return _kept(expanded(attacks), classes)


def misfits(attacks: Iterable[EvaluationAttackConfig], classes: int) -> list[str]:
    """Returns one sentence per problem of attacks on a classifier of so many classes."""
    parts = expanded(attacks)
    problems = [
        f"protocol.attacks: '{kind}' aims at captions, but the data set has classes; use 'pgd' or 'apgd-ce'"
        for kind in dict.fromkeys(part.kind for part in parts)
        if kind in CAPTION_KINDS
    ]
    if not _kept(parts, classes):
        names = ", ".join(part.kind for part in parts)
        problems.append(
            f"protocol.attacks: {names} need {FEWEST_CLASSES} classes, but the data set has {classes}; "
            "add an attack such as apgd-ce"
        )
    return problems


def _kept(parts: Iterable[EvaluationAttackConfig], classes: int) -> tuple[EvaluationAttackConfig, ...]:
    return tuple(part for part in parts if classes >= FEWEST_CLASSES or not part.loss.startswith("dlr"))


def needs_surrogate(protocol: EvaluationProtocol) -> bool:
    """Tells whether an attack follows the gradients of the pretrained model."""
    return any(attack.source == "pretrained" for attack in protocol.attacks)


def labels(attacks: Iterable[EvaluationAttackConfig]) -> tuple[str, ...]:
    """Names attacks, each by its label, the second of the same label with a number."""
    names: list[str] = []
    for attack in attacks:
        seen = sum(name == attack.label or name.startswith(f"{attack.label} (") for name in names)
        names.append(attack.label if not seen else f"{attack.label} ({seen + 1})")
    return tuple(names)
