"""Finds studies: shipped ones by name, others by file; and applies `--set` overrides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, overload

from advlora.config import TrialConfig, parse, parse_override, read_yaml, vary, with_values
from advlora.errors import ConfigError, did_you_mean
from advlora_platform.shelves import Kind, shipped, shipped_protocols
from advlora_platform.study.ablation import AblationStudy
from advlora_platform.study.spec import Study
from advlora_platform.study.sweep import SweepStudy

SCHEMAS: dict[str, type[Study]] = {"ablation": AblationStudy, "sweep": SweepStudy}
BASE = "base."
VERBS: dict[str, str] = {"ablation": "ablate", "sweep": "sweep"}


def find(reference: str, kind: Kind) -> Path:
    """Returns the file of a study that is given by name or by path.

    Raises:
        ConfigError: If there is neither a shipped study of that name nor such a file.
    """
    known = shipped(kind)
    if reference in known:
        return known[reference]
    path = Path(reference)
    if path.suffix in {".yaml", ".yml"} or "/" in reference:
        if not path.is_file():
            raise ConfigError(f"study file '{reference}' does not exist")
        return path
    raise ConfigError(
        f"no shipped {kind} is called '{reference}'; shipped: {', '.join(known)}{did_you_mean(reference, known)} "
        "(a file must end in .yaml)"
    )


@overload
def load_study(reference: str, kind: Literal["ablation"], overrides: Iterable[str] = ()) -> AblationStudy: ...


@overload
def load_study(reference: str, kind: Literal["sweep"], overrides: Iterable[str] = ()) -> SweepStudy: ...


@overload
def load_study(reference: str, kind: Kind, overrides: Iterable[str] = ()) -> Study: ...


def load_study(reference: str, kind: Kind, overrides: Iterable[str] = ()) -> Study:
    """Reads, overrides and validates a study.

    Raises:
        ConfigError: With every problem of the file and the overrides.
    """
    path = find(reference, kind)
    return read_study(read_yaml(path), overrides, expected=kind)


def load_any(reference: str, overrides: Iterable[str] = ()) -> Study:
    """Reads a study of either kind; a name is looked up among the ablations first.

    Raises:
        ConfigError: With every problem of the file and the overrides.
    """
    kind: Kind = "ablation" if reference in shipped("ablation") or reference not in shipped("sweep") else "sweep"
    return read_study(read_yaml(find(reference, kind)), overrides)


def read_study(content: Mapping[str, Any], overrides: Iterable[str] = (), expected: Kind | None = None) -> Study:
    """Validates the content of a study file; `expected` is the kind that the verb runs.

    Raises:
        ConfigError: With every problem found.
    """
    kind = content.get("kind")
    if kind not in SCHEMAS:
        raise ConfigError(f"kind: {kind!r} is not allowed; a study says 'kind: ablation' or 'kind: sweep'")
    if expected is not None and kind != expected:
        raise ConfigError(f"this is a study of kind '{kind}'; run it with 'advlora {VERBS[kind]}'")
    schema = SCHEMAS[kind]
    tree, trial = _with_protocols(content), {}
    for key, value in [parse_override(text) for text in overrides]:
        place = _place(key, schema)
        if place.startswith(BASE):
            trial[place.removeprefix(BASE)] = value
        else:
            tree = _with_protocols(with_values(tree, {place: value}))
    if trial and isinstance(base := tree.get("base", {}), Mapping):
        tree["base"] = vary(TrialConfig, base, trial)
    return parse(schema, tree)


def shipped_protocol(name: str, key: str = "protocol") -> dict[str, Any]:
    """Returns the content of a shipped protocol.

    Args:
        name: Name of the protocol.
        key: Where it is named, for the message.

    Raises:
        ConfigError: If there is none of that name.
    """
    known = shipped_protocols()
    if name not in known:
        raise ConfigError(
            f"{key}: no shipped protocol is called '{name}'; shipped: {', '.join(known)}{did_you_mean(name, known)}"
        )
    return read_yaml(known[name])


def _with_protocols(content: Mapping[str, Any]) -> dict[str, Any]:
    """Puts the shipped protocols in the place of their names."""
    tree = dict(content)
    if isinstance(name := tree.get("protocol"), str):
        tree["protocol"] = shipped_protocol(name)
    confirm = tree.get("confirm")
    if isinstance(confirm, Mapping) and isinstance(name := confirm.get("protocol"), str):
        tree["confirm"] = {**confirm, "protocol": shipped_protocol(name, "confirm.protocol")}
    return tree


def _place(key: str, schema: type[Study]) -> str:
    """Returns the path of an override within the study: trial keys belong to its base."""
    head = key.partition(".")[0]
    if head in schema.model_fields:
        return key
    if head in TrialConfig.model_fields:
        return f"{BASE}{key}"
    known = [*TrialConfig.model_fields, *schema.model_fields]
    raise ConfigError(f"unknown key '{key}' in --set{did_you_mean(head, known)}")
