"""YAML 1.2, read strictly: from files, from text, and from `key=value` of the command line; and written.

Words are text: `on`, `yes`, `010`, `1:30`, `1_0`, dates. Numbers are decimal. Keys are text, and none is given twice.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from ruamel.yaml import YAML
from ruamel.yaml.composer import MaxDepthExceededError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.representer import SafeRepresenter
from ruamel.yaml.resolver import VersionedResolver

from advlora.errors import ConfigError
from advlora.text import decoded

TAG = "tag:yaml.org,2002:"
SCALARS = {
    "null": ("~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": ("true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": ("0|-?[1-9][0-9]{0,299}", list("-0123456789")),
    "float": (
        r"[-+]?(?:(?:(?:0|[1-9][0-9]*)\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|(?:0|[1-9][0-9]*)[eE][-+]?[0-9]+)"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    "merge": ("<<", ["<"]),
}
"""What a word without quotes may be besides text, and the characters that it may begin with."""
MOST_VALUES, DEEPEST = 100_000, 100
INVALID = "not valid YAML"
EXTENSION = "x-"
"""Begins a top-level key that holds what other keys refer to, and is no key itself."""
QUOTED = ('"', "'", "[", "{")
"""Begins the value of an override that is read as YAML; any other is one word, whatever it holds."""


class Written(float):
    """A number that remembers how it was written, for keys that hold text, such as the revision `6812e59`."""

    written: str

    def __new__(cls, written: str | float) -> Self:
        """Reads `.inf` and `.nan` too."""
        number = super().__new__(cls, str(written).lower().replace(".inf", "inf").replace(".nan", "nan"))
        number.written = str(written)
        return number


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a YAML mapping, without the keys that begin with `x-`.

    Raises:
        ConfigError: If the file is missing, is no text, is not YAML or holds no mapping; with every problem found.
    """
    try:
        content = parse_yaml(read_text(path))
    except ConfigError as error:
        raise ConfigError([f"{path}: {problem}" for problem in error.problems]) from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold a mapping of keys to values, but holds {type(content).__name__}")
    return {key: value for key, value in content.items() if not key.startswith(EXTENSION)}


def read_text(path: Path) -> str:
    """Reads text in UTF-8, or in what its byte-order mark says.

    Raises:
        ConfigError: If the file cannot be read, or holds another encoding.
    """
    try:
        return decoded(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(str(error)) from None


def parse_yaml(text: str) -> Any:
    """Parses one YAML document into plain data.

    Raises:
        ConfigError: With every problem found, and its line.
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.Resolver, yaml.max_depth = _CoreResolver, DEEPEST
    try:
        root = yaml.compose(io.StringIO(text))
    except YAMLError as error:
        raise ConfigError(_sentence(error)) from None
    content = _Content()
    found = None if root is None else content.of(root)
    if content.problems:
        raise ConfigError(content.problems)
    return found


def dump_yaml(content: Mapping[str, Any]) -> str:
    """Writes plain data as YAML that this module, and loaders of YAML 1.2, read back as it was."""
    stream = io.StringIO()
    yaml: Any = YAML(typ="safe", pure=True)  # its settings are typed as the None that they begin with
    yaml.Resolver, yaml.Representer = _CautiousResolver, _Representer
    yaml.default_flow_style, yaml.sort_base_mapping_type_on_output, yaml.width = False, False, 110
    yaml.dump(content, stream)
    return stream.getvalue()


def parse_override(text: str) -> tuple[str, Any]:
    """Splits `optimiser.learning_rate=1e-3` into the key path and the value.

    A value that begins with a quote or a bracket is YAML. Any other is one word: a number, `true`, `null`, or text
    that may hold colons, brackets and hashes.

    Raises:
        ConfigError: If it is not written as key=value, or the value is no YAML.
    """
    key, separator, value = (part.strip() for part in text.partition("="))
    if not separator or not all(part.strip() for part in key.split(".")):
        raise ConfigError(f"override '{text}' must be written as key=value, such as adapter.rank=16")
    if not value.startswith(QUOTED):
        return key, _word(value)
    try:
        return key, parse_yaml(value)
    except ConfigError as error:
        hint = "; in the shell, text that begins with a bracket takes two pairs of quotes: key='\"[text]\"'"
        said = [problem + hint * (INVALID in problem) for problem in error.problems]
        raise ConfigError([f"override '{text}': {problem}" for problem in said]) from None


def as_text(value: Any) -> Any:
    """Returns a number as it was written; anything else as it is."""
    if isinstance(value, Written):
        return value.written
    return str(value) if type(value) is int else value


class _CoreResolver(VersionedResolver):
    """Says what a word without quotes is, by `SCALARS` alone, whatever version a file says it has."""

    @property
    def versioned_resolver(self) -> dict[str, list[tuple[str, re.Pattern[str]]]]:
        """First character -> tags and their patterns."""
        return _RULES


class _CautiousResolver(VersionedResolver):
    """The same for writing: what any loader of YAML 1.2 could take for something else than text is quoted."""

    @property
    def versioned_resolver(self) -> dict[str, list[tuple[str, re.Pattern[str]]]]:
        """First character -> tags and their patterns."""
        usual = super().versioned_resolver
        return {first: [*usual.get(first, []), *_RULES.get(first, [])] for first in {*usual, *_RULES}}


_RULES: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
for _name, (_pattern, _first) in SCALARS.items():
    for _character in _first:
        _RULES.setdefault(_character, []).append((TAG + _name, re.compile(rf"(?:{_pattern})\Z")))


class _Representer(SafeRepresenter):
    """Writes numbers as they were written."""


_Representer.add_representer(Written, lambda self, number: self.represent_scalar(f"{TAG}float", number.written))


def _word(text: str) -> Any:
    """Reads a value of the command line that is one word."""
    tag = _CoreResolver().resolve(ScalarNode, text, (True, False))
    return _scalar(str(tag), text)


def _scalar(tag: str, text: str) -> Any:
    match tag.removeprefix(TAG):
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int":
            return int(text)
        case "float":
            return Written(text)
    return text


class _Content:
    """Turns the nodes of a document into plain data, and notes what is wrong with them."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._left = MOST_VALUES
        self._open: list[Node] = []

    def of(self, node: Node) -> Any:
        """Returns what a node holds."""
        self._left -= 1
        if self._left < 0:
            raise ConfigError(f"it holds more than {MOST_VALUES} values, those of repeated anchors included")
        if any(node is other for other in self._open):
            return self._note(node, "an anchor holds itself")
        tag, known = str(node.tag), (*SCALARS, "str") if isinstance(node, ScalarNode) else ("map", "seq")
        if tag.removeprefix(TAG) not in known:
            return self._note(node, f"tag '{tag}' is not allowed")
        if isinstance(node, ScalarNode):
            return self._of_scalar(tag, node)
        self._open.append(node)
        found = self._mapping(node) if isinstance(node, MappingNode) else [self.of(item) for item in node.value]
        self._open.pop()
        return found

    def _of_scalar(self, tag: str, node: ScalarNode) -> Any:
        try:
            return _scalar(tag, node.value)
        except ValueError:
            return self._note(node, f"'{node.value}' is not a number, as its tag says")

    def _mapping(self, node: MappingNode) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        content: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                self._note(key, "a key must be text")
                continue
            if key.value in lines:
                self._note(key, f"key '{key.value}' is given twice, first in line {lines[key.value]}")
            lines[key.value] = _line(key)
            if str(key.tag) == f"{TAG}merge":
                merged = self._merged(value)
            else:
                content[key.value] = self.of(value)
        return {**merged, **content}

    def _merged(self, node: Node) -> dict[str, Any]:
        """Returns what `<<` adds: of several mappings, the first that has a key says its value."""
        found = self.of(node)
        merged: dict[str, Any] = {}
        for part in reversed(found if isinstance(found, list) else [found]):
            if not isinstance(part, dict):
                self._note(node, "'<<' takes a mapping, or a list of mappings")
                break
            merged |= part
        return merged

    def _note(self, node: Node, problem: str) -> None:
        self.problems.append(f"line {_line(node)}: {problem}")


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


def _sentence(error: YAMLError) -> str:
    if isinstance(error, ReaderError):
        return f"{INVALID}: character #x{error.character:04x} at position {error.position} is not allowed"
    if isinstance(error, MaxDepthExceededError):
        return f"{INVALID}: it is nested more than {DEEPEST} levels deep"
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        context = f" ({error.context})" if error.context else ""
        return f"line {error.problem_mark.line + 1}: {INVALID}{context}: {' '.join(str(error.problem).split())}"
    return f"{INVALID}: {' '.join(str(error).split())}"
