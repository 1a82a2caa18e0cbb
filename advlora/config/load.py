"""From YAML text and `key=value` overrides to validated sections, with every problem said at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from advlora.errors import ConfigError, did_you_mean

Parsed = TypeVar("Parsed", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """YAML 1.2 floats: `1e-3` is a number (PyYAML alone reads it as text)."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    __import__("re").compile(r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$|^[-+]?\.inf$|^\.nan$"),
    list("-+0123456789."),
)


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a YAML mapping.

    Raises:
        ConfigError: If the file is missing, is not YAML or holds no mapping.
    """
    try:
        content = parse_yaml(path.read_text())
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {_one_line(error)}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold a mapping of keys to values, but holds {type(content).__name__}")
    return content


def parse_yaml(text: str) -> Any:
    """Parses YAML safely."""
    return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def parse_override(text: str) -> tuple[str, Any]:
    """Splits `optimiser.learning_rate=1e-3` into the key path and the value.

    Raises:
        ConfigError: If there is no `=`.
    """
    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        raise ConfigError(f"override '{text}' must be written as key=value, such as adapter.rank=16")
    return key.strip(), parse_yaml(value)


def with_values(tree: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a copy of a nested mapping with the dotted keys of `values` set."""
    result = {key: with_values(value, {}) if isinstance(value, Mapping) else value for key, value in tree.items()}
    for path, value in values.items():
        *parents, leaf = path.split(".")
        node = result
        for parent in parents:
            child = node.get(parent)
            node[parent] = child = dict(child) if isinstance(child, Mapping) else {}
            node = child
        node[leaf] = with_values(value, {}) if isinstance(value, Mapping) else value
    return result


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `base` with the nested mapping `over` laid on top."""
    return with_values(base, dict(leaves(over)))


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Yields the dotted path and value of every leaf of a nested mapping."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def parse(schema: type[Parsed], data: Mapping[str, Any], where: str = "") -> Parsed:
    """Validates `data` against a schema.

    Args:
        schema: A pydantic model.
        data: Nested mapping, as read from YAML.
        where: Prefix of the key paths in messages, such as `base.`.

    Raises:
        ConfigError: With one sentence per problem: key path, value, what is allowed, nearest known key.
    """
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        raise ConfigError([_sentence(schema, problem, where) for problem in error.errors()]) from None


def _sentence(schema: type[BaseModel], problem: Any, where: str) -> str:
    path = [str(part) for part in problem["loc"]]
    key = where + ".".join(path)
    if problem["type"] == "extra_forbidden":
        known = known_keys(schema, path[:-1])
        return f"unknown key '{key}'{did_you_mean(path[-1], known) or '; allowed: ' + ', '.join(known)}"
    if problem["type"] == "missing":
        return f"key '{key}' is required"
    if problem["type"] == "literal_error":
        allowed = problem["ctx"]["expected"]
        names = allowed.replace("'", "").replace(" or ", ", ").split(", ")
        nearest = did_you_mean(str(problem["input"]), names)
        return f"{key}: {problem['input']!r} is not allowed; allowed: {allowed}{nearest}"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"{key}: {message}" if key else message
    return f"{key}: {problem['input']!r} is not allowed; {message[0].lower()}{message[1:]}"


def known_keys(schema: type[BaseModel], path: list[str]) -> list[str]:
    """Returns the keys that a schema knows below `path`."""
    for part in path:
        field = schema.model_fields.get(part)
        if field is None:
            continue
        candidates = [field.annotation, *get_args(field.annotation)]
        nested = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        if nested:
            schema = nested[0]
    return list(schema.model_fields)


def all_keys(schema: type[BaseModel], prefix: str = "") -> list[str]:
    """Returns the dotted paths of every leaf key of a schema."""
    keys: list[str] = []
    for name, field in schema.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            keys += all_keys(annotation, f"{prefix}{name}.")
        else:
            keys.append(prefix + name)
    return keys
