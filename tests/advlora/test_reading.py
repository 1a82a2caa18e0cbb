"""YAML 1.2, strictly: what is read, what is refused and how, and that what is written comes back."""

from __future__ import annotations

import copy
import math
import pickle
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advlora.config import ModelConfig, dump_yaml, parse, parse_override, parse_yaml, read_yaml
from advlora.config.base import as_text
from advlora.errors import ConfigError
from advlora.reading import Written

pytestmark = pytest.mark.unit
FEW = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def problems(read, *arguments) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        read(*arguments)
    return refused.value.problems


@pytest.mark.parametrize(
    "word",
    ["on", "off", "yes", "No", "y", "010", "00", "+5", "1:30", "1_0", "0x1F", "0o7", "2024-01-01", "1.2.3", "e3"],
)
def test_words_are_text(word):
    assert parse_yaml(f"key: {word}") == {"key": word}
    assert parse_override(f"key={word}") == ("key", word)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("12", 12),
        ("-3", -3),
        ("0", 0),
        ("1e-3", 1e-3),
        ("2.5E+2", 250.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("-.inf", -math.inf),
    ],
)
def test_numbers_are_decimal(written, value):
    found = parse_yaml(f"[{written}]")[0]
    assert (found, isinstance(found, float)) == (value, isinstance(value, float))
    assert parse_override(f"key={written}")[1] == found


def test_truth_and_nothing_have_one_name_each():
    assert parse_yaml("[true, False, null, ~, 'true']") == [True, False, None, None, "true"]


def test_keys_are_text():
    assert parse_yaml("{8: a, 010: b, null: c, on: d, 1e3: e}") == {
        "8": "a",
        "010": "b",
        "null": "c",
        "on": "d",
        "1e3": "e",
    }


def test_a_key_given_twice_is_refused_with_both_lines():
    text = "protocol:\n  epsilon: 8/255\n  seed: 1\n  epsilon: 4/255\nname: a\nname: b\n"
    assert problems(parse_yaml, text) == [
        "line 4: key 'epsilon' is given twice, first in line 2",
        "line 6: key 'name' is given twice, first in line 5",
    ]


def test_keys_may_be_merged_and_kept_in_a_block_of_their_own(tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text("x-common: &a {p: 1, q: 2}\nb: {<<: *a, q: 3}\nc: {<<: [*a, {p: 5, r: 4}]}\nd: *a\n")
    assert read_yaml(file) == {"b": {"p": 1, "q": 3}, "c": {"p": 1, "q": 2, "r": 4}, "d": {"p": 1, "q": 2}}
    assert parse_yaml("'<<': 3") == {"<<": 3}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1, 2", "line 1: not valid YAML (while parsing a flow sequence)"),
        ("a: 1\nb: c: d", "line 2: not valid YAML: mapping values are not allowed here"),
        ("a: *b", "undefined alias 'b'"),
        ("a: &b [*b]", "line 1: an anchor holds itself"),
        ("a: 1\n---\nb: 2", "line 2: not valid YAML (expected a single document in the stream)"),
        ("? [a]\n: 1", "a key must be text"),
        ("<<: 3", "'<<' takes a mapping"),
        ("a: !!int x", "'x' is not a number, as its tag says"),
        ("!!python/object/apply:os.system ['true']", "is not allowed"),
        ("a: !secret b", "tag '!secret' is not allowed"),
        ("[" * 200 + "]" * 200, "more than 100 levels deep"),
        ("a: \x00", "character #x0000"),
    ],
)
def test_what_is_no_yaml_or_more_than_data_is_one_sentence(text, said):
    assert [problem for problem in problems(parse_yaml, text) if said in problem]


def test_anchors_that_multiply_are_refused():
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{this}: &{this} [{', '.join([f'*{last}'] * 10)}]\n" for last, this in zip("abcde", "bcdef", strict=True)
    )
    assert "more than 100000 values" in problems(parse_yaml, bomb)[0]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_is_read_in_unicode(tmp_path, encoding):
    file = tmp_path / "study.yaml"
    file.write_text("name: café\n", encoding=encoding)
    assert read_yaml(file) == {"name": "café"}


def test_another_encoding_is_refused_by_name_and_line(tmp_path):
    file = tmp_path / "study.yaml"
    file.write_bytes("a: 1\nname: café\n".encode("latin-1"))
    assert problems(read_yaml, file) == [
        f"{file}: is not UTF-8 (byte 0xe9 in line 2), perhaps Latin-1; save it as UTF-8"
    ]


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path):
    assert problems(read_yaml, tmp_path) == [f"{tmp_path}: cannot be read: Is a directory"]
    (tmp_path / "list.yaml").write_text("- 1")
    assert "must hold a mapping" in problems(read_yaml, tmp_path / "list.yaml")[0]


def test_keys_that_hold_text_keep_what_looks_like_a_number():
    for written in ("6812e59", "1.10", "20"):
        assert parse(ModelConfig, parse_yaml(f"pretrained: {written}")).pretrained == written
        assert parse(ModelConfig, dict([parse_override(f"pretrained={written}")])).pretrained == written
    assert as_text(True) is True


def test_a_written_number_is_a_number_and_travels():
    number = Written("6812e59")
    assert (number, str(number)) == (6812e59, str(6812e59))
    for other in (copy.deepcopy(number), pickle.loads(pickle.dumps(number))):
        assert other.written == "6812e59"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("key=/data/a: b #c [d]", "/data/a: b #c [d]"),
        ("key=- x", "- x"),
        ("key=!!x *y", "!!x *y"),
        ("key=", None),
        ("key=a=b", "a=b"),
        ("key='[a]'", "[a]"),
        ('key="a: b"', "a: b"),
        ("key=[a, 8/255, 1e-3]", ["a", "8/255", 1e-3]),
        ("key={a: {b.c: 1}}", {"a": {"b.c": 1}}),
    ],
)
def test_an_override_takes_text_with_colons_brackets_and_hashes(text, value):
    assert parse_override(text) == ("key", value)


@pytest.mark.parametrize("text", ["key", "=1", "", "a..b=1", ".a=1", "a.=1", "a. =1"])
def test_an_override_without_a_key_is_refused(text):
    assert problems(parse_override, text) == [
        f"override '{text}' must be written as key=value, such as adapter.rank=16"
    ]


@pytest.mark.parametrize("text", ["seeds=[0,1", "a={b: 1", "a=[x] y", "a='b", "a={b: 1, b: 2}"])
def test_a_malformed_override_is_one_sentence(text):
    found = problems(parse_override, text)
    assert len(found) == 1
    assert found[0].startswith(f"override '{text}': line 1: ")


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=("C",)), max_size=12)
    | st.sampled_from(["on", "010", "1e5", "1_0", "1:30", "~", "x: y", "# z", "[", "- a", "a\nb\n", "2024-01-01"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc./ 01", max_size=4), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@FEW
@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), PLAIN, max_size=4))
def test_what_is_written_comes_back(content):
    assert parse_yaml(dump_yaml(content)) == content


@FEW
@given(st.text("ab:{}[],-#&*!|>'\"% \n\t?1e.<~", max_size=40))
def test_any_text_is_data_or_a_sentence(text):
    for read in (parse_yaml, parse_override):
        with suppress(ConfigError):
            read(text)
