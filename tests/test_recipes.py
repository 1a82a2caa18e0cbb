"""The page of recipes knows every method that can be configured, and only studies that are shipped."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from advlora.config import AlignmentConfig, InitConfig, TrialConfig, all_keys
from advlora.config.losses import LOSSES
from advlora.config.schema import kind_name, nested, sections
from advlora_platform.shelves import shipped

pytestmark = pytest.mark.unit

PAGE = (Path(__file__).parents[1] / "docs" / "recipes.md").read_text()


def choices(section: type, key: str) -> tuple[str, ...]:
    return get_args(section.model_fields[key].annotation)


@pytest.mark.parametrize(
    "name",
    [
        *(f"kind: {kind_name(adapter)}" for adapter in nested(TrialConfig.model_fields["adapter"])),
        *(f"init: {kind_name(init)}" for init in sections(InitConfig)),
        *choices(AlignmentConfig, "at"),
    ],
)
def test_every_method_has_its_recipe(name: str) -> None:
    assert f"`{name}`" in PAGE or f"adapter.{name}`" in PAGE


@pytest.mark.parametrize("kind", LOSSES)
def test_every_loss_has_its_row_with_its_knobs(kind: str) -> None:
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| {LOSSES[kind].title} |")]
    assert row.split("|")[2].strip() == f"`{kind}`"
    assert re.findall(r"`(\w+)`", row.split("|")[3]) == [key for key in LOSSES[kind].model_fields if key != "kind"]


ADAPTER_KEYS = [key for key in all_keys(TrialConfig) if key.startswith("adapter.") and not key.endswith("enabled")]


@pytest.mark.parametrize("key", ADAPTER_KEYS)
def test_every_knob_of_an_adapter_is_named(key: str) -> None:
    name = key.rpartition(".")[2]
    assert re.search(rf"`({re.escape(key)}|([a-z_.]+\.|\.)?{name})(: .*)?`", PAGE), key


def test_every_recipe_says_equation_source_and_knobs_and_names_shipped_studies() -> None:
    recipes = [part for part in re.split(r"^#{2,3} ", PAGE, flags=re.MULTILINE) if "**Equation.**" in part]
    assert len(recipes) >= 13
    for recipe in recipes:
        title = recipe.splitlines()[0]
        assert "**Source.**" in recipe, title
        assert "**Knobs.**" in recipe, title
        measured = recipe.partition("**Measured in:**")[2]
        assert measured, title
        named = set(re.findall(r"`([a-z_]+)`", measured.splitlines()[0]))
        assert "no shipped study" in measured or named & set(shipped("ablation")), title
