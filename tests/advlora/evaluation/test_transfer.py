"""A model on the data sets that it is taken to."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from advlora.config import DataConfig, ModelConfig, SamplesConfig
from advlora.data.transfer import NamedSet
from advlora.evaluation.evaluator import Evaluator
from advlora.evaluation.transfer import measure_transfer
from advlora.progress import shown_by
from tests.advlora.data.class_folders import class_folders
from tests.advlora.short_trials import evaluation

pytestmark = pytest.mark.unit

SMALL = {"attacks": [{"steps": 1}], "samples": {"val": 4, "test": 8}}
NUMBERS = ("clean_r1", "robust_r1:4_255", "robust_r1:8_255", "robust_mean_per_class:8_255")


@pytest.fixture
def evaluator(bench) -> Evaluator:
    """The embedded model, on its way from a set of its own."""
    base = ModelConfig()
    return Evaluator(bench.model(base), DataConfig(), evaluation(**SMALL), bench, base, own_texts=False)


def test_every_set_is_measured_as_if_it_were_the_only_one(evaluator, tmp_path: Path) -> None:
    own = NamedSet("own", DataConfig(name=str(class_folders(tmp_path / "own", ["bag", "boot", "coat"], 4))))
    shutil.rmtree(tmp_path / "own" / "test")
    known = NamedSet("known", DataConfig())
    heard: list[str] = []
    with shown_by(lambda noun, done, total: heard.append(f"{done} of {total} {noun}")):
        found = measure_transfer(evaluator, (own, known))
    assert [text for text in heard if "transfer" in text] == [
        "0 of 2 transfer sets, now own",
        "1 of 2 transfer sets, now known",
    ]
    alone = {
        "known": evaluator.measure("test", curve=True),
        "own": replace(
            evaluator, data=own.data, protocol=evaluator.protocol.model_copy(update={"samples": SamplesConfig(val=8)})
        ).measure("val", curve=True),
    }
    splits = {"own": "val", "known": "test"}
    for number in NUMBERS:
        values = {name: alone[name].metrics[f"{split}/{number}"] for name, split in splits.items()}
        assert {name: found.metrics[f"test/transfer/{name}/{number}"] for name in values} == values
        assert found.metrics[f"test/transfer/{number}"] == pytest.approx(sum(values.values()) / 2)
    assert len(found.metrics) == 3 * 6
    assert {len(row) for row in found.examples.values()} == {8}
    assert found.examples["test/transfer/known/clean_r1"].equal(alone["known"].outcomes.clean)


def test_texts_of_the_classes_are_those_of_each_set(evaluator, tmp_path: Path) -> None:
    """Names that describe nothing in the images make another classifier of the same images."""
    for name, classes in (("right", ["bag", "boot"]), ("wrong", ["boot", "bag"])):
        folder = class_folders(tmp_path / name, ["0", "1"], 8)
        (folder / "classes.json").write_text(f'{{"0": "{classes[0]}", "1": "{classes[1]}"}}')
    sets = [NamedSet(name, DataConfig(name=str(tmp_path / name))) for name in ("right", "wrong")]
    found = measure_transfer(evaluator, sets)
    right, wrong = (found.metrics[f"test/transfer/{name}/clean_r1"] for name in ("right", "wrong"))
    assert right + wrong == pytest.approx(1), "two classes whose names are exchanged"
