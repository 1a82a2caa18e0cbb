"""What can be written into a configuration: every key with its values, its default and a sentence, from the schema."""

from __future__ import annotations

import ast
import inspect
import json
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BeforeValidator
from pydantic.fields import FieldInfo

from advlora.config.base import as_number
from advlora.config.schema import KIND, Schema, sections
from advlora.metrics import readable_epsilon

TYPE = "type"
"""Tells the ranges of a search space apart, as `kind` does methods."""
NAMES = {bool: "true or false", int: "whole number", float: "number", str: "text", NoneType: "null", Any: "any value"}


@dataclass(frozen=True)
class Key:
    """One key of a configuration.

    Attributes:
        path: Dotted path; `[]` stands for an item of a list, `NAME` for a key of one's own.
        values: What it may be, in words.
        default: What holds where it is left out, as YAML; empty where it is required, follows from other keys, or holds
            further keys.
        sentence: What it is.
        needs: Which kinds of a section take it, such as `adapter.kind lora, dora`; empty where all do.
    """

    path: str
    values: str
    default: str
    sentence: str
    needs: str = ""


def described(schema: Schema, prefix: str = "") -> Iterator[Key]:
    """Yields the keys of a schema in its order, those of a section after the section itself."""
    for name, field in schema.model_fields.items():
        members, sentence = sections(field.annotation), _sentence(schema, name)
        below = prefix + name + (_item(field.annotation) if members else "")
        if len(members) > 1:
            yield from _family(members, f"{below}.", getattr(field.default, KIND, ""), sentence)
        elif members:
            yield Key(below, "keys below", "", sentence)
            yield from described(members[0], f"{below}.")
        else:
            words = _words(field.annotation, field.metadata)
            yield Key(below, words, _default(field, fraction=bool(re.search(r"\bfraction\b", words))), sentence)


def _family(members: Sequence[Schema], prefix: str, default: str, sentence: str) -> Iterator[Key]:
    """Yields the keys of a family: the one that chooses a member, and what the members take; what they share, once."""
    tag = KIND if KIND in members[0].model_fields else TYPE
    names = [get_args(member.model_fields[tag].annotation)[0] for member in members]
    yield Key(prefix + tag, f"one of {', '.join(names)}", default, sentence)
    takers: dict[Key, list[str]] = {}
    for name, member in zip(names, members, strict=True):
        for key in described(member, prefix):
            takers.setdefault(key, []).append(name)
    for key, kinds in takers.items():
        if key.path != prefix + tag:
            told = key.needs or len(kinds) == len(names)
            yield key if told else replace(key, needs=f"{prefix}{tag} {', '.join(kinds)}")


def _item(annotation: Any) -> str:
    """Returns how an item of a list, or a key of one's own, is written in a path."""
    origins = {get_origin(part) for part in (annotation, *get_args(annotation))}
    return "[]" if tuple in origins else ".NAME" if dict in origins else ""


def _default(field: FieldInfo, fraction: bool) -> str:
    if field.is_required() or field.default_factory is not None:
        return ""
    value = field.default
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    if fraction and value is not None:
        return readable_epsilon(value)
    plain = value is None or value == "" or isinstance(value, bool)
    return json.dumps(value) if plain else str(value)


def _words(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """Says what values an annotation allows."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _words(parts[0], [*metadata, *parts[1:]])
    if origin in (Union, UnionType):
        return " or ".join(_words(part, [] if part is NoneType else metadata) for part in parts)
    if origin is Literal:
        return f"one of {', '.join(map(str, parts))}" if len(parts) > 1 else str(parts[0])
    if origin is tuple:
        return f"list of {'two: ' * (len(parts) == 2 and parts[1] is not Ellipsis)}{_words(parts[0])}"
    if origin is dict:
        return "mapping"
    flat = [each for entry in metadata for each in (entry.metadata if isinstance(entry, FieldInfo) else [entry])]
    fraction = any(isinstance(each, BeforeValidator) and each.func is as_number for each in flat)
    return NAMES[annotation] + " or fraction" * fraction + _bounds(flat)


def _bounds(metadata: Sequence[Any]) -> str:
    """Says the narrowest bounds; those that only keep a number within 32 bits go without saying."""
    low = high = ""
    for bound in metadata:
        match bound:
            case Ge(ge=value):
                low = f" from {value}"
            case Gt(gt=int() | float() as value) if value > -(2**31):
                low = f" above {value}"
            case Le(le=value):
                high = f" to {value}"
            case Lt(lt=int() | float() as value) if value < 2**31:
                high = f", below {value}"
    return low + high


def sentences(schema: Schema) -> dict[str, str]:
    """Returns what the keys of a section are: key -> the string below it in the source."""
    return {name: text for name in schema.model_fields if (text := _sentence(schema, name))}


def _sentence(schema: Schema, name: str) -> str:
    owners = [owner for owner in schema.__mro__ if name in inspect.get_annotations(owner)]
    return next((text for owner in owners if (text := _docstrings(owner).get(name))), "")


@cache
def _docstrings(owner: type) -> dict[str, str]:
    """Reads the strings below the fields of a class."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
    assert isinstance(tree, ast.ClassDef)
    found: dict[str, str] = {}
    for field, text in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
            found[field.target.id] = " ".join(str(ast.literal_eval(text.value)).split()).replace("None", "null")
    return found
