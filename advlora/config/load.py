"""From plain data to validated sections, with every problem said at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from advlora.config.renamed import renamed_key, renamed_value
from advlora.config.schema import KIND, kinds, leaves, sections
from advlora.errors import ConfigError, did_you_mean

Parsed = TypeVar("Parsed", bound=BaseModel)


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
        found = [sentence for problem in error.errors() for sentence in _sentences(schema, problem, where)]
        raise ConfigError(found) from None


def _sentences(schema: type[BaseModel], problem: Any, where: str) -> list[str]:
    path, kind, owners = _place(schema, problem["loc"])
    key = where + ".".join(path)
    if problem["type"] != "extra_forbidden":
        return [_wrong(key, problem)]
    below = problem["input"] if isinstance(problem["input"], Mapping) and renamed_key(key) else {}
    # The keys of a section that was renamed may have gone different ways.
    return [_unknown(inner, path, kind, owners) for inner in [f"{key}.{leaf}" for leaf, _ in leaves(below)] or [key]]


def _wrong(key: str, problem: Any) -> str:
    if problem["type"] == "missing":
        return f"key '{key}' is required"
    if problem["type"] == "union_tag_invalid":
        tag, allowed = problem["ctx"]["tag"], problem["ctx"]["expected_tags"]
        return _not_allowed(f"{key}.{KIND}", tag, allowed)
    if problem["type"] == "literal_error":
        return _not_allowed(key, problem["input"], problem["ctx"]["expected"])
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"{key}: {message}" if key else message
    return f"{key}: {problem['input']!r} is not allowed; {message[0].lower()}{message[1:]}"


def _not_allowed(key: str, value: Any, allowed: str) -> str:
    if renamed := renamed_value(key, value):
        return renamed
    names = allowed.replace("'", "").replace(" or ", ", ").split(", ")
    return f"{key}: {value!r} is not allowed; allowed: {allowed}{did_you_mean(str(value), names)}"


def _unknown(key: str, path: list[str], kind: str | None, owners: tuple[type[BaseModel], ...]) -> str:
    """Says why a key cannot be given: it was renamed, its method does not take it, or there is none of that name."""
    if renamed := renamed_key(key):
        return f"unknown key '{key}': {renamed}"
    family, (head, _, leaf) = kinds(owners), key.rpartition(".")
    if kind in family:
        known = [name for name in family[kind].model_fields if name != KIND]
        takers = [name for name, member in family.items() if leaf in member.model_fields]
        own = f"it takes {', '.join(known)}" if known else "it takes no keys"
        if takers:
            return f"{key}: has no effect with {head}.{KIND} '{kind}'; {own} (kinds that take it: {', '.join(takers)})"
        return f"unknown key '{key}'{did_you_mean(leaf, known) or f'; {KIND} {kind!r}: {own}'}"
    known = list(owners[0].model_fields) if owners else []
    return f"unknown key '{key}'{did_you_mean(path[-1], known) or '; allowed: ' + ', '.join(known)}"


def _place(schema: type[BaseModel], loc: Sequence[str | int]) -> tuple[list[str], str | None, tuple[Any, ...]]:
    """Follows pydantic's location, in which a member of a family is preceded by its kind.

    Returns:
        The path as a person writes it; the kind of the section that holds the last key, and the sections that could.
    """
    path: list[str] = []
    kind: str | None = None
    current: tuple[Any, ...] = (schema,)
    owners: tuple[Any, ...] = (schema,)
    for part in loc:
        if isinstance(part, str) and part in kinds(current) and kind is None and path:
            kind, owners = part, current
            current = (kinds(current)[part],)
            continue
        path.append(str(part))
        if isinstance(part, int):
            continue
        if kind is None:
            owners = current
        field = next((each.model_fields[part] for each in current if part in each.model_fields), None)
        if field is not None:
            current, kind = sections(field.annotation), None
    return path, kind, owners
