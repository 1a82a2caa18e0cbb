"""The reference and the JSON Schema say what the schema says, of every key."""

from __future__ import annotations

import re
from pathlib import Path

import jsonschema
import pytest

from advlora.config import TrialConfig, all_keys, parse_yaml, read_yaml
from advlora.config.schema import KIND
from advlora_platform.shelves import shipped, shipped_protocols
from advlora_platform.study.json_schema import study_schema
from advlora_platform.study.reference import facts, matching, reference, to_markdown

pytestmark = pytest.mark.unit
KEYS = reference()
EVERY = [key for group in KEYS.values() for key in group]
DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture(scope="module")
def validator():
    return jsonschema.Draft202012Validator(study_schema())


def said(prefix: str) -> list[str]:
    return [f"{key.path}: {facts(key)}" for key in matching(KEYS, prefix)]


def test_the_page_is_the_schema():
    assert (DOCS / "reference.md").read_text() == to_markdown(KEYS), "write it again: advlora keys --markdown"


def test_every_key_of_a_trial_is_there():
    written = {key.path for key in KEYS["Trials"]}
    for path in all_keys(TrialConfig):
        assert path in written or f"{path}.{KIND}" in written


def test_every_key_says_in_a_sentence_what_it_is():
    assert [key.path for key in EVERY if not re.fullmatch(r".+[.:].*", key.sentence)] == []


@pytest.mark.parametrize(
    ("prefix", "line"),
    [
        ("adapter.rank", "adapter.rank: whole number from 1; default 8; with adapter.kind lora, dora, adalora"),
        ("base.adapter.rslora", "adapter.rslora: true or false; default false; with adapter.kind lora, dora"),
        ("attack.steps", "attack.steps: whole number from 1; default 2; with attack.kind pgd, universal"),
        ("protocol.epsilon", "protocol.epsilon: number or fraction above 0; default 8/255"),
        ("protocol.curve", "protocol.curve: list of number or fraction above 0; default []"),
        ("attack.kind", "attack.kind: one of none, fgsm_rs, n_fgsm, pgd, universal; default pgd"),
        ("confidence", "confidence: number above 0, below 1; default 0.95"),
        ("seeds", "seeds: list of whole number from 0; default [0, 1, 2]"),
        ("parameters.NAME.low", "parameters.NAME.low: whole number; with parameters.NAME.type int"),
        ("model.pretrained", "model.pretrained: text or null; default null"),
    ],
)  # fmt: skip
def test_a_key_says_what_it_may_be_its_default_and_who_takes_it(prefix, line):
    assert said(prefix)[0] == line


def test_shipped_studies_and_templates_fit_the_json_schema(validator):
    files = [*shipped("ablation").values(), *shipped("sweep").values(), *_templates()]
    assert {file.name: [error.message for error in validator.iter_errors(read_yaml(file))] for file in files} == {
        file.name: [] for file in files
    }


def _templates() -> list[Path]:
    return sorted((Path(__file__).parents[3] / "platform/advlora_platform/study/templates").glob("*.yaml"))


@pytest.mark.parametrize(
    "text",
    [
        "{kind: ablation, name: a, arms: {b: {adapter.rnk: 3}}}",
        "{kind: ablation, name: a, base: {adapter: {rnk: 3}}}",
        "{kind: ablation, name: a, sedes: [1]}",
        "{kind: ablation, name: a, protocol: strnog}",
        "{kind: sweep, name: a}",
        "{name: a}",
    ],
)
def test_the_json_schema_refuses_what_is_no_key(validator, text):
    assert not validator.is_valid(parse_yaml(text))


def test_the_json_schema_knows_short_forms_and_sentences(validator):
    assert validator.is_valid(
        parse_yaml(
            "{kind: ablation, name: a, x-own: 1, base: {attack: none}, protocol: strong, arms: {b: {adapter: full}}}"
        )
    )
    assert "strong" in shipped_protocols()
    properties = study_schema()["$defs"]["LoraAdapter"]["properties"]
    assert properties["rank"]["description"] == "Rank of the low-rank product."
