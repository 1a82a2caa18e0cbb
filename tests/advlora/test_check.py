from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from advlora.check import check_evaluation, check_transfer, check_trial, forget_files
from advlora.config import DataConfig, EvaluationProtocol, TransferConfig, TrialConfig, parse
from advlora.data import check_data
from advlora.data.layouts import layout_of
from tests.advlora.data.class_folders import class_folders

pytestmark = pytest.mark.unit


def problems(**values) -> list[str]:
    return check_trial(parse(TrialConfig, values))


def test_the_default_trial_is_right() -> None:
    assert problems() == []
    assert problems(adapter={"tower": "both", "modules_to_save": ["norms", "biases"], "ranks": {"mlp": 4}}) == []


@pytest.mark.parametrize(
    ("adapter", "sentence"),
    [
        ({"ranks": {"mlp": 500}}, "adapter.rank: 500 is above"),
        ({"blocks": [0, 99]}, "adapter.blocks: [0, 99] is not a range of the blocks"),
        ({"tower": "text", "modules_to_save": ["patch_embedding"]}, "has no 'patch_embedding'"),
        ({"tower": "both", "rank": 1000}, "adapter.rank: 1000 is above"),
    ],
)
def test_adapters_that_do_not_fit_are_known_before_weights_are_read(adapter: dict, sentence: str) -> None:
    assert sentence in problems(adapter=adapter)[0]


def test_a_missing_projection_is_known(tiny) -> None:
    model = tiny("siglip").model_dump()
    (sentence,) = problems(model=model, adapter={"kind": "linear_probe"})
    assert "trains the final projection" in sentence
    assert problems(model=model, adapter={"kind": "norms"}) == []


def captioned(folder: Path) -> None:
    entries = [
        {"filename": f"{split}.png", "split": split, "sentences": [{"raw": "a cat"}]}
        for split in ("train", "val", "test")
    ]
    (folder / "dataset_coco.json").write_text(json.dumps({"images": entries}))
    for split in ("train", "val", "test"):
        Image.new("RGB", (2, 2)).save(folder / f"{split}.png")


def test_losses_that_do_not_fit_are_known(tiny, tmp_path: Path) -> None:
    assert "needs a model with a matching head" in problems(loss={"kind": "itm"})[0]
    assert "'sigmoid' needs a model with a bias of its logits" in problems(loss={"kind": "sigmoid"})[0]
    assert problems(model=tiny("siglip").model_dump(), loss={"kind": "sigmoid"}) == []
    assert problems(model=tiny("blip").model_dump(), loss={"kind": "itm"}) == []
    captioned(tmp_path)
    assert "needs classes" in problems(data={"name": str(tmp_path)})[0]
    assert problems(data={"name": str(tmp_path)}, loss={"kind": "contrastive"}) == []


def test_protocols_that_do_not_fit_the_task_are_known(tiny, bert, tmp_path: Path) -> None:
    captioned(tmp_path)

    def found(attack: dict, data: str, **values) -> list[str]:
        config = parse(TrialConfig, {"data": {"name": data}, "loss": {"kind": "contrastive"}})
        return check_evaluation(config, parse(EvaluationProtocol, {"attacks": [attack], **values}))

    captions, classes = str(tmp_path), DataConfig().name
    sga = {"kind": "sga", "words": bert}
    assert found(sga, captions) == []
    assert "'sga' aims at captions" in found(sga, classes)[0]
    assert found({"kind": "square"}, classes) == []
    assert found({"kind": "square"}, captions) == []
    assert "attacks a classifier; retrieval is attacked by" in found({"kind": "fab"}, captions)[0]
    assert "no masked language model" in found({**sga, "words": tiny("clip").name}, captions)[0]
    assert "protocol.rerank: needs images, and a model with a matching head" in found({}, captions, rerank=3)[0]
    assert found({"kind": "square"}, "absent") == []


@pytest.mark.parametrize("store", ["memory", "disk"])
def test_training_on_one_class_is_refused_where_classes_are_what_is_learned(tmp_path: Path, store: str) -> None:
    class_folders(tmp_path, ["cat", "dog"], 4)
    data = {"name": str(tmp_path), "store": store}
    assert problems(data={**data, "train_samples": 2}) == []
    (problem,) = problems(data={**data, "train_samples": 1})
    assert problem.startswith(f"data.train_samples: all 1 training samples of data set '{tmp_path.name}' are of class ")
    assert problems(data={**data, "train_samples": 1}, loss={"kind": "fare"}) == []
    shutil.rmtree(tmp_path / "train" / "dog")
    forget_files()
    assert "all 4 training samples" in problems(data=data)[0]


def test_a_trial_needs_every_split_and_one_that_trains_nothing_no_training_images(tmp_path: Path) -> None:
    class_folders(tmp_path)
    shutil.rmtree(tmp_path / "train")
    data = {"name": str(tmp_path)}
    assert "has no split 'train'" in problems(data=data)[0]
    assert problems(data=data, adapter={"kind": "none"}) == []


def test_all_problems_are_said_at_once(tmp_path: Path) -> None:
    found = problems(adapter={"rank": 1000}, data={"name": "absent", "train_samples": 3})
    assert len(found) == 2


def test_layouts_are_recognised(tmp_path: Path) -> None:
    def layout(*names: str) -> str:
        folder = tmp_path / "-".join(names).replace("/", "_")
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("{}")
        return layout_of(DataConfig(name=str(folder)))

    assert layout("dataset.json", "a.tar") == "shards"
    assert layout("dataset_coco.json") == "karpathy"
    assert layout("MSRVTT_data.json") == "msrvtt"
    assert layout("test/cat/1.jpg") == "folders"
    assert layout("readme.txt") == "shards"
    assert layout_of(DataConfig()) == "shards"
    assert layout_of(DataConfig(name=str(tmp_path), layout="folders")) == "folders"
    assert "holds no dataset.json" in check_data(DataConfig(name=str(tmp_path / "readme.txt")))[0]


def test_a_suite_is_checked_before_anything_is_measured(tmp_path: Path) -> None:
    def found(name: str, protocol: dict | None = None) -> list[str]:
        transfer = parse(TransferConfig, {"root": str(tmp_path), "sets": [name]})
        return check_transfer(transfer, parse(EvaluationProtocol, protocol or {}))

    class_folders(tmp_path / "pets")
    assert found("pets") == []
    assert "is no folder in" in found("dogs")[0]
    (sentence,) = found("pets", {"attacks": [{"kind": "apgd-t"}]})
    assert sentence.startswith("transfer set 'pets': ")
    assert found("emoji") == [
        "transfer set 'emoji': it has captions instead of classes, and a transfer suite compares images with the texts "
        "of classes"
    ]
    (tmp_path / "pets" / "test" / "cat" / "0000.png").write_bytes(b"")
    forget_files()
    assert found("pets")[0].startswith("transfer set 'pets': ")
    assert "test/cat/0000.png' cannot be read: it is empty" in found("pets")[0]
    for split in ("val", "test"):
        shutil.rmtree(tmp_path / "pets" / split)
    forget_files()
    assert found("pets") == ["transfer set 'pets': it has no samples in split 'test' or 'val'"]
