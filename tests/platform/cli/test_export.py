"""`advlora export --where`: the best configuration under constraints."""

from __future__ import annotations

import json

import pytest
import yaml

from tests.builders import ablation
from tests.platform.folders import run_made_up

pytestmark = pytest.mark.unit
SMALL = "params/trainable_fraction <= 0.1"


@pytest.fixture
def finished(tmp_path):
    """A study whose best arm is full fine-tuning."""
    study = ablation(arms={"LoRA": {}, "full": {"adapter.kind": "full"}}, base={"data": {"train_samples": 64}})
    return run_made_up(study, tmp_path / "runs" / "parts", {"full": 1.0})


def test_the_best_under_a_constraint_is_exported_and_the_study_keeps_its_own(advlora, finished):
    answer = advlora("export", "parts", "--where", SMALL, "-o", "small.yaml")
    assert answer.code == 0, answer.err
    assert f"'LoRA' has the highest mean val/robust_r1:8_255 of 1 complete arm, with {SMALL}" in answer.out
    assert yaml.safe_load(finished.best.read_text())["provenance"]["arm"] == "full"
    chosen = json.loads(advlora("export", "parts", "--where", SMALL, "-o", "small.yaml", "--json").out)
    assert chosen["provenance"]["arm"] == "LoRA"


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("params/trainable <= 1", "no finished trial yet that keeps params/trainable <= 1"),
        ("params/trainable < 1", "--where: 'params/trainable < 1' is not a constraint, such as"),
        ("test/clean_r1 >= 0.1", "--where: 'test/clean_r1 >= 0.1' is on test, which selects nothing"),
    ],
)
def test_what_nothing_keeps_or_cannot_be_read_is_refused(advlora, finished, tmp_path, where, said):
    answer = advlora("export", "parts", "--where", where)
    assert answer.code == 2
    assert said in answer.err
    assert not (tmp_path / "best.yaml").exists()
