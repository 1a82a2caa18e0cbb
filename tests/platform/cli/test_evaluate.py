"""`advlora evaluate` and `advlora compare` as a person uses them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.advlora.data.class_folders import class_folders
from tests.advlora.data.shard_files import image_bytes, write_shard

pytestmark = pytest.mark.unit

PROTOCOL = {"attacks": [{"steps": 2}], "samples": {"val": 12, "test": 12}, "guards": {"samples": 8, "queries": 2}}


@pytest.fixture
def measured(advlora):
    """Measures the embedded model; files and options by name."""
    Path("tiny.yaml").write_text(yaml.safe_dump(PROTOCOL))

    def run(*options):
        return advlora("evaluate", "tiny-clip", "--protocol", "tiny.yaml", *options)

    return run


def test_a_record_is_written_and_told_in_a_table(measured):
    answer = measured("--no-track")
    assert answer.code == 0, answer.err
    (file,) = Path("records").glob("tiny-clip-tiny-*.json")
    record = json.loads(file.read_text())
    assert len(record["examples"]["clean"]) == 12
    assert f"{100 * record['metrics']['test/clean_r1']:.1f}" in answer.out
    assert record["protocol_hash"] in answer.out
    assert "pgd-2" in answer.out
    assert "worst case" in answer.out
    assert str(file) in answer.out
    assert not Path("mlflow.db").exists()


def test_programs_get_the_record_without_the_examples(measured):
    answer = measured("--no-track", "--json", "--out", "deeper/mine.json", "--split", "val")
    printed, kept = json.loads(answer.out), json.loads(Path("deeper/mine.json").read_text())
    assert "examples" not in printed
    assert printed == {key: value for key, value in kept.items() if key != "examples"}
    assert printed["data"]["split"] == "val"


def test_two_records_are_compared_or_refused(measured, advlora):
    measured("--no-track", "--out", "a.json")
    record = json.loads(Path("a.json").read_text())
    record["model"] |= {"name": "other", "weights": "ff"}
    record["examples"]["clean"] = "0" * 12
    Path("b.json").write_text(json.dumps(record))
    found = json.loads(advlora("compare", "a.json", "b.json", "--json").out)
    assert found["rows"][0]["attack"] == "clean"
    assert found["rows"][0]["second"] == 0
    told = advlora("compare", "a.json", "b.json").out
    assert "only A" in told
    assert "other" in told
    record["data"]["hash"] = "another"
    Path("b.json").write_text(json.dumps(record))
    answer = advlora("compare", "a.json", "b.json")
    assert answer.code == 2
    assert "differ in data hash" in answer.err
    assert "Traceback" not in answer.err


@pytest.mark.parametrize("folder", ["/dev/null/x", "/proc"])
def test_a_place_that_cannot_be_written_is_said_before_anything_is_computed(measured, folder):
    answer = measured("--no-track", "--out", f"{folder}/r.json")
    assert (answer.code, answer.err.count("error:")) == (2, 1), answer.err
    assert f"the record cannot be written into folder '{folder}'" in answer.err


@pytest.mark.parametrize("data", ["fashion-mnist", "emoji"])
@pytest.mark.parametrize("tower", ["vision", "text"])
def test_a_model_with_a_weight_that_is_not_a_number_gives_one_sentence_and_no_record(measured, advlora, data, tower):
    import torch

    from advlora.config import ModelConfig
    from advlora.models import load_model

    model = load_model(ModelConfig())
    weight = next(iter(model.tower(tower).parameters().values()))
    with torch.no_grad():
        weight.view(-1)[0] = torch.nan
    model.save(Path("damaged"))
    answer = advlora("evaluate", "damaged", "--data", data, "--protocol", "tiny.yaml", "--no-track")
    assert (answer.code, answer.err.count("error:")) == (2, 1), answer.err
    assert "not finite" in answer.err
    assert "Traceback" not in answer.err
    assert list(Path(".").rglob("*.json")) == list(Path("damaged").rglob("*.json"))


def folder_of_two_classes(folder: Path) -> None:
    import numpy as np
    from PIL import Image

    source = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for name, lowest in (("dark", 0), ("bright", 128)):
            (folder / split / name).mkdir(parents=True)
            for number in range(6):
                pixels = source.integers(lowest, lowest + 128, (28, 28, 3), np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{number}.png")
    (folder / "prompts.txt").write_text("a photo of a {}\n")


def test_the_header_and_the_record_name_the_attacks_that_ran(advlora):
    folder_of_two_classes(Path("two"))
    attacks = [{"kind": "apgd-ce", "steps": 2}, {"kind": "apgd-t", "steps": 2}]
    Path("both.yaml").write_text(yaml.safe_dump({**PROTOCOL, "attacks": attacks}))
    answer = advlora(
        "evaluate", "tiny-clip", "--data", "two", "--protocol", "both.yaml", "--no-track", "--out", "r.json"
    )
    assert answer.code == 0, answer.err
    record = json.loads(Path("r.json").read_text())
    assert record["protocol_text"] == "APGD-CE-2 (L-inf 8/255), 12 val / 12 test images"
    assert set(record["examples"]["attacks"]["8_255"]) == {"apgd-ce-2"}
    assert "apgd-t" not in answer.out.lower()


def test_a_set_of_clip_benchmark_is_measured_with_captions_of_open_clip(measured):
    source, folder = np.random.default_rng(0), Path("wds_tiny")
    (folder / "test").mkdir(parents=True)
    (folder / "classnames.txt").write_text("boot\nbag\ndress\n")
    (folder / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\n")
    images = [image_bytes(source.integers(0, 256, (20, 30, 3), np.uint8), "WEBP") for _ in range(6)]
    write_shard(folder / "test" / "0.tar", [{"webp": image, "cls": b"%d" % (n % 3)} for n, image in enumerate(images)])
    plain, simple = (
        json.loads(measured("--no-track", "--json", "--data", str(folder), *options).out)
        for options in ((), ("--templates", "simple"))
    )
    assert plain["data"]["samples"] == simple["data"]["samples"] == 6
    assert plain["data"]["hash"] != simple["data"]["hash"]
    assert {"test/clean_mean_per_class", "test/robust_mean_per_class:8_255"} < simple["metrics"].keys()
    refusal = measured("--data", str(folder), "--classes", "openai-imagenet")
    assert refusal.code == 2
    assert "names 1000 classes, but data set 'wds_tiny' has 3" in refusal.err
    refusal = measured("--data", str(folder), "--templates", "simpl")
    assert refusal.code == 2
    assert "did you mean 'simple'" in refusal.err


def test_further_sets_are_named_by_options(measured):
    class_folders(Path("sets") / "mine", ["bag", "boot"])
    answer = measured("--no-track", "--json", "--root", "sets", "--transfer", "mine")
    assert answer.code == 0, answer.err
    record = json.loads(answer.out)
    assert record["transfer"]["mine"]["samples"] == 4
    assert record["metrics"]["test/transfer/clean_r1"] == record["metrics"]["test/transfer/mine/clean_r1"]
    alone = measured("--root", "sets")
    assert (alone.code, "--root has no effect without --transfer" in alone.err) == (2, True)
    absent = measured("--root", "sets", "--transfer", "tecoa-15")
    assert absent.code == 2
    assert "folder 'sets' lacks 15 of the 15 sets of 'tecoa-15': cifar10, cifar100," in absent.err
