from __future__ import annotations

import re
import string
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from scripts.embedded import card
from scripts.embedded.card import Structure

pytestmark = pytest.mark.unit

RANDOM = {role: Structure(0.2, 0.1) for role in card.ENERGY_AIMS}
SHIPPED = Path(card.__file__).parents[2] / "advlora/embedded/tiny-clip"
GOOD = {role: Structure(0.2 * aim + 0.01, 0.3) for role, aim in card.ENERGY_AIMS.items()}


def clean_accuracy(text: str) -> float:
    return float(re.findall(r"\*\*([\d.]+)%\*\* on all of `test`", text)[0])


def structure_table(text: str) -> list[float]:
    rows = re.findall(r"\| (?:[qkv]_proj|out_proj|c_fc|c_proj) \|(.*)", text)
    return [float(value) for row in rows for value in re.findall(r"[\d.]+", row)]


def test_top_energy_is_one_for_a_weight_of_that_rank() -> None:
    left, right = torch.randn(2, 20, card.TOP, generator=torch.Generator().manual_seed(0))
    assert card.top_energy(left @ right.T) == pytest.approx(1, abs=1e-5)


def test_top_energy_of_an_orthogonal_weight_is_its_share_of_the_rank() -> None:
    assert card.top_energy(3 * torch.eye(32)) == pytest.approx(card.TOP / 32)


def test_explained_variance_is_one_for_repeated_rows_and_small_for_orthogonal_ones() -> None:
    rows = torch.randn(card.CLUSTERS, 10, generator=torch.Generator().manual_seed(0))
    assert card.explained_variance(rows.repeat(3, 1)) == pytest.approx(1, abs=1e-4)
    assert card.explained_variance(torch.eye(64)) < 0.5


def test_structure_is_the_mean_over_the_blocks_of_a_role() -> None:
    vision = nn.ModuleList(nn.ModuleDict({role: nn.Linear(32, 32) for role in card.ENERGY_AIMS}) for _ in range(2))
    vision[0]["c_fc"].weight.data = torch.eye(32)
    vision[1]["c_fc"].weight.data = torch.ones(32, 32)
    found = card.measure_structure(vision, [f"{block}.{role}" for block in range(2) for role in card.ENERGY_AIMS])
    assert list(found) == list(card.ENERGY_AIMS)
    assert found["c_fc"].energy == pytest.approx((card.TOP / 32 + 1) / 2, abs=1e-5)


def test_structure_rows_hold_value_random_value_and_ratio() -> None:
    rows = card.structure_rows({"q_proj": Structure(0.58, 0.37)}, {"q_proj": Structure(0.2, 0.1)})
    assert rows == ["| q_proj | 0.58 | 0.20 | 2.9 | 0.37 | 0.10 | 3.7 |"]


def test_accuracy_rows_go_from_clean_to_the_strongest_attack() -> None:
    def table(drop: float) -> dict[str, float]:
        robust = {f"test/robust_r1:{s}_255": 0.8 - drop - s / 100 for s in card.STRENGTHS}
        return {"test/clean_r1": 0.9} | dict(reversed(robust.items()))

    rows = card.accuracy_rows(table(0.0), table(0.1))
    assert rows[:2] == ["| clean | 90.0% | |", "| 1/255 | 79.0% | 69.0% |"]
    assert rows[-1] == "| 32/255 | 48.0% | 38.0% |"


def test_verdict_says_that_all_aims_are_reached() -> None:
    text = card.verdict(0.89, GOOD, RANDOM)
    assert text.endswith("reached throughout.")
    assert "not reached" not in text


def test_verdict_names_each_value_that_falls_short_and_no_other() -> None:
    weak = GOOD | {"v_proj": Structure(0.35, 0.3), "c_fc": Structure(0.5, 0.3)}
    text = " ".join(card.verdict(0.861, weak, RANDOM).split())
    assert "**not reached**: zero-shot accuracy is 86.1%, not 88%; v_proj has 1.75 times" in text
    assert "c_fc has 2.50 times the random top-8 energy, not 3." in text
    assert "q_proj" not in text
    assert "c_proj" not in text


def weights_file(folder: Path, record: dict[str, str] | None) -> Path:
    save_file({"x": torch.zeros(1)}, folder / "open_clip_model.safetensors", metadata=record)
    return folder


def test_training_facts_come_from_the_record_in_the_weights(tmp_path: Path) -> None:
    facts = card.training_facts(weights_file(tmp_path, {"steps": "375", "batch_size": "256"}))
    assert (facts["train_steps"], facts["batch_size"], facts["passes"]) == (375, 256, 1.0)
    assert facts["origin"] == card.RECORDED


def test_training_facts_without_a_record_are_said_to_be_the_defaults(tmp_path: Path) -> None:
    facts = card.training_facts(weights_file(tmp_path, None))
    assert (facts["train_steps"], facts["batch_size"], facts["passes"]) == (12_000, 128, 16.0)
    assert facts["origin"] == card.UNRECORDED


def test_template_names_every_licence_and_its_holder() -> None:
    text = card.TEMPLATE.read_text()
    for words in ("Zalando", "Apache-2.0", "CC-BY-4.0", "Twitter, Inc", "Microsoft", "Cal Henderson", "Victor Zhou"):
        assert words in text


def test_shipped_card_is_the_filled_template() -> None:
    text = (SHIPPED / "README.md").read_text()
    for part, *_ in string.Formatter().parse(card.TEMPLATE.read_text()):
        assert part in text


def test_shipped_card_states_what_the_shipped_weights_do() -> None:
    shipped, measured = (SHIPPED / "README.md").read_text(), card.fill(SHIPPED, samples=4, steps=1)
    assert clean_accuracy(measured) == pytest.approx(clean_accuracy(shipped), abs=0.3)
    assert len(structure_table(measured)) == 6 * len(card.ENERGY_AIMS)
    assert structure_table(measured) == pytest.approx(structure_table(shipped), abs=0.11)
    assert "{" not in measured


def test_random_vision_is_the_same_each_time_and_split() -> None:
    first, second = (card.random_vision(SHIPPED).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any("q_proj" in name for name in first)
