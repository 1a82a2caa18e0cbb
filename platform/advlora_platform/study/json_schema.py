"""The JSON Schema of study files, by which editors complete and check keys."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from advlora.config import TrialConfig, all_keys
from advlora.config.schema import sections
from advlora.reading import EXTENSION
from advlora_platform.shelves import shipped_protocols
from advlora_platform.study.keys import sentences
from advlora_platform.study.library import SCHEMAS
from advlora_platform.study.sweep import ConfirmConfig

DRAFT = "https://json-schema.org/draft/2020-12/schema"
Node = dict[str, Any]


def study_schema() -> Node:
    """Returns the schema of both kinds of study; which one holds is decided by the key `kind`."""
    models: list[type[BaseModel]] = [TrialConfig, *SCHEMAS.values()]
    found, content = models_json_schema([(model, "validation") for model in models], title="advlora study")
    definitions: dict[str, Node] = content["$defs"]
    for model in _reached(models):
        _describe(definitions.get(model.__name__, {}), sentences(model))
    _relax(content)
    refs = {kind: found[model, "validation"] for kind, model in SCHEMAS.items()}
    holders: tuple[type[BaseModel], ...] = (*SCHEMAS.values(), ConfirmConfig)
    for holder in holders:
        _named(definitions[holder.__name__]["properties"])
    for model in SCHEMAS.values():
        _study(definitions[model.__name__], found[TrialConfig, "validation"])
    sweep = {"properties": {"kind": {"const": "sweep"}}, "required": ["kind"]}
    choice = {"if": sweep, "then": refs["sweep"], "else": refs["ablation"]}
    return {"$schema": DRAFT, "title": content["title"], **choice, "$defs": definitions}


def _reached(models: Iterable[Any]) -> list[Any]:
    """Returns every section below some sections."""
    found: dict[Any, None] = {}
    waiting = list(models)
    while waiting:
        model = waiting.pop()
        if model not in found:
            found[model] = None
            waiting += [inner for field in model.model_fields.values() for inner in sections(field.annotation)]
    return list(found)


def _describe(definition: Node, texts: dict[str, str]) -> None:
    for name, node in definition.get("properties", {}).items():
        if name in texts:
            node["description"] = texts[name]


def _relax(node: Any) -> None:
    """Lets a family be its kind alone, or leave its kind out: editors know nothing of that."""
    if isinstance(node, dict):
        if "discriminator" in node:
            kinds = node.pop("discriminator")["mapping"]
            node["anyOf"] = [*node.pop("oneOf"), {"enum": list(kinds)}]
        for inner in node.values():
            _relax(inner)
    elif isinstance(node, list):
        for inner in node:
            _relax(inner)


def _named(properties: Node) -> None:
    """Lets a protocol be the name of a shipped one."""
    node = properties["protocol"]
    properties["protocol"] = {
        "anyOf": [{"enum": list(shipped_protocols())}, {"$ref": node["$ref"]}],
        "description": node.get("description", ""),
    }


def _study(definition: Node, trial: Node) -> None:
    """Says what pydantic does not know of a study: the keys of trials, and blocks of one's own."""
    definition["patternProperties"] = {f"^{EXTENSION}": {}}
    definition["required"] = sorted({*definition.get("required", []), "kind"})
    properties, keys = definition["properties"], {"propertyNames": {"enum": all_keys(TrialConfig)}}
    properties["base"] = {**trial, "description": properties["base"].get("description", "")}
    for name in ("arms", "parameters"):
        if name in properties:
            inner = properties[name]["additionalProperties"] if name == "arms" else properties[name]
            inner.update(keys)
