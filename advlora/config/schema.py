"""What a schema knows: its keys, the families of methods in it, and how values are laid over a configuration.

A family is a union of sections that differ in a literal `kind` (see `base.default_kind`). Which keys a section takes
then depends on its kind, so that a key without effect cannot be written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

KIND, ENABLED = "kind", "enabled"
Schema = type[BaseModel]


def sections(annotation: Any) -> tuple[Schema, ...]:
    """Returns the sections that a field may hold: one, the members of a family, or those of a tuple's items."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return (annotation,)
    if get_origin(annotation) is Annotated:
        return sections(get_args(annotation)[0])
    return tuple(found for part in get_args(annotation) for found in sections(part))


def nested(field: FieldInfo) -> tuple[Schema, ...]:
    """Returns the sections whose keys can be addressed below a field; none for lists of sections."""
    return () if get_origin(field.annotation) in (tuple, list, dict) else sections(field.annotation)


def kind_name(section: Schema) -> str | None:
    """Returns the kind of a member of a family; None for a section that is no member."""
    field = section.model_fields.get(KIND)
    choices = get_args(field.annotation) if field and get_origin(field.annotation) is Literal else ()
    return choices[0] if len(choices) == 1 else None


def kinds(members: tuple[Schema, ...]) -> dict[str, Schema]:
    """Returns kind -> section of a family; empty where the sections are no family."""
    named = {kind: member for member in members if (kind := kind_name(member)) is not None}
    return named if len(members) > 1 and len(named) == len(members) else {}


def all_keys(schema: Schema, prefix: str = "") -> list[str]:
    """Returns the dotted paths of every key that some configuration has; a family's own path names its kind."""
    keys: dict[str, None] = {}
    for name, field in schema.model_fields.items():
        members = nested(field)
        if not members or kinds(members):
            keys[prefix + name] = None
        for member in members:
            keys |= dict.fromkeys(all_keys(member, f"{prefix}{name}."))
    return list(keys)


def kind_path(schema: Schema, path: str) -> str:
    """Returns the path of the key that chooses a family's method, `adapter.kind` for `adapter`; other paths stay."""
    return f"{path}.{KIND}" if _is_family(schema, path) else path


def takes(schema: Schema, tree: Mapping[str, Any], path: str) -> bool:
    """Returns whether a configuration has a key, given the kinds that it chooses."""
    head, _, rest = path.partition(".")
    field = schema.model_fields.get(head)
    if field is None or not rest:
        return field is not None
    value = tree.get(head)
    below = value if isinstance(value, Mapping) else {}
    return any(takes(member, below, rest) for member in chosen(field, value))


def in_effect(schema: Schema, tree: Mapping[str, Any], path: str) -> bool:
    """Returns whether a configuration has a key, and no switch on the way to it is off."""
    *parents, leaf = path.split(".")
    node: Any = tree
    for parent in parents:
        node = node.get(parent) if isinstance(node, Mapping) else None
    switched_off = isinstance(node, Mapping) and node.get(ENABLED) is False and leaf != ENABLED
    return takes(schema, tree, path) and not switched_off


def chosen(field: FieldInfo, value: Any) -> tuple[Schema, ...]:
    """Returns the section that `value` chooses among those of a field; all of them where it names no known kind."""
    members = nested(field)
    family = kinds(members)
    kind = value if isinstance(value, str) else value.get(KIND) if isinstance(value, Mapping) else None
    kind = _default(field) if kind is None else kind
    return (family[kind],) if kind in family else members


def _default(field: FieldInfo) -> str | None:
    return getattr(field.get_default(call_default_factory=True, validated_data={}), KIND, None)


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


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the dotted path and value of every leaf of a nested mapping."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def vary(schema: Schema, base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Lays dotted values over a configuration.

    Where they choose another method, or switch a part off, what `base` says of it and the new choice does not take
    is left behind: `attack.kind: none` over `{kind: pgd, steps: 3}` gives `{kind: none}`. What `values` themselves say
    stays, and is refused when the result is parsed.

    Args:
        schema: Schema of the configuration.
        base: A nested mapping.
        values: Dotted key -> value; a method's own path is short for its kind (`attack: none`).
    """
    written, tree = spelled(schema, values), spelled_out(schema, base)
    for path, value in written.items():
        parent, _, leaf = path.rpartition(".")
        if parent and (leaf == KIND or (leaf == ENABLED and value is False)):
            _leave_behind(schema, tree, parent.split("."), {leaf: value})
    return with_values(tree, written)


def applicable(
    schema: Schema, base: Mapping[str, Any], values: Mapping[str, Any], over: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns `values` laid below `over`, without those that the methods which `over` chooses do not take.

    So a factor that is off asks nothing of an arm with another method: `adapter.alignment.enabled: false` is left out
    beside `adapter.kind: full`.
    """
    tree = vary(schema, vary(schema, base, values), over)
    below = {path: value for path, value in spelled(schema, values).items() if in_effect(schema, tree, path)}
    return {**below, **spelled(schema, over)}


def spelled_out(schema: Schema, tree: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a copy of a configuration in which every method is a mapping with its kind."""
    result: dict[str, Any] = {}
    for key, value in tree.items():
        field = schema.model_fields.get(key)
        members = () if field is None else nested(field)
        if field is not None and kinds(members):
            value = {KIND: value} if isinstance(value, str) else value
            if isinstance(value, Mapping) and KIND not in value and (kind := _default(field)) is not None:
                value = {KIND: kind, **value}
        if isinstance(value, Mapping):
            inner = chosen(field, value) if field is not None else ()
            value = spelled_out(inner[0], value) if len(inner) == 1 else with_values(value, {})
        result[key] = value
    return result


def spelled(schema: Schema, values: Mapping[str, Any]) -> dict[str, Any]:
    """Writes `attack: none` as `attack.kind: none`; kinds come first, for they decide what else there is."""
    written = {kind_path(schema, path) if isinstance(value, str) else path: value for path, value in values.items()}
    return dict(sorted(written.items(), key=lambda item: (not item[0].endswith(f".{KIND}"), item[0].count("."))))


def _is_family(schema: Schema, path: str) -> bool:
    head, _, rest = path.partition(".")
    field = schema.model_fields.get(head)
    members = () if field is None else nested(field)
    return any(_is_family(member, rest) for member in members) if rest else bool(kinds(members))


def _leave_behind(schema: Schema, tree: dict[str, Any], parents: list[str], choice: Mapping[str, Any]) -> None:
    """Drops what a section's new kind does not take, or everything but the switch of a part that is switched off."""
    node, field = tree, None
    fields: tuple[Schema, ...] = (schema,)
    for parent in parents:
        field = next((section.model_fields[parent] for section in fields if parent in section.model_fields), None)
        value = node.get(parent)
        if field is None or not isinstance(value, Mapping):
            return
        node[parent] = node = dict(value)
        fields = chosen(field, value)
    if field is None:
        return
    keep = set().union(*(section.model_fields for section in chosen(field, choice))) if KIND in choice else {ENABLED}
    for key in [key for key in node if key not in keep]:
        del node[key]
