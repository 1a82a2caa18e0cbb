"""`advlora export --model`, `--arm` and `advlora push`: the model of a study, as others get it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import ModelCard

from advlora.adapters import load_trained
from advlora.training.trainer import restore
from advlora.training.workbench import Workbench
from advlora_platform.execution.states import save_state
from advlora_platform.study import StudyFolder, trials_of
from tests.builders import TEST_CLEAN, TEST_ROBUST, ablation
from tests.platform.folders import run_made_up

pytestmark = pytest.mark.unit
ADDRESS = "hf://me/robust"


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> StudyFolder:
    """A study of two arms, two seeds each, with the states of their trials; they are not trained but moved."""
    small = {"adapter.rank": 2, "adapter.target": "attention-qv"}
    study = ablation(arms={"plain": small, "wide": {**small, "adapter.rank": 3}}, base={"data": {"train_samples": 64}})
    folder = run_made_up(study, tmp_path_factory.mktemp("runs") / "parts", {"wide": 0.5})
    bench, factory = Workbench(), trials_of(study)
    for arm, values in study.arm_values.items():
        trial = factory.trial(arm, 0, values, "ablate")
        adapted = restore(trial.config, bench)
        for parameter in adapted.parameters():
            parameter.data += 0.05
        save_state(folder.trial(trial.id), {"adapter": adapted.state()})
    return folder


@pytest.fixture
def told(advlora, finished):
    """Runs a verb on the study."""

    def told(verb: str, *arguments: str):
        return advlora(verb, str(finished.path), *arguments)

    return told


def test_a_named_arm_is_exported_and_the_best_stays(told, finished):
    answer = told("export", "--arm", "plain", "-o", "plain.yaml")
    assert answer.code == 0, answer.err
    assert "'plain' as asked: mean val/robust_r1:8_255" in answer.out
    assert "over 2 seeds (95 % interval" in answer.out
    text = Path("plain.yaml").read_text()
    assert text.startswith("# Arm 'plain' of study 'parts'. Train it with: advlora train plain.yaml\n")
    content = yaml.safe_load(text)
    assert (content["name"], content["provenance"]["arm"]) == ("parts-plain", "plain")
    assert content["trial"]["adapter"]["rank"] == 2
    assert yaml.safe_load(finished.best.read_text())["provenance"]["arm"] == "wide"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--arm", "plian"], "--arm: study 'parts' has no arm 'plian'; did you mean 'plain'?"),
        (["--arm", "plain", "--where", "clean >= 0.1"], "--arm names a configuration, and --where chooses one"),
        (["--arm", "plain", "--pack", "p"], "--arm chooses a configuration, and a pack holds all of them"),
        (["--model", "p", "--pack", "q"], "--model chooses a configuration, and a pack holds all of them"),
    ],
)
def test_what_cannot_be_exported_is_one_sentence(told, arguments, said):
    answer = told("export", *arguments)
    assert answer.code == 2
    assert said in answer.err


def test_the_model_of_a_study_is_what_its_trial_trained(told, finished):
    answer = told("export", "--model", "robust")
    assert answer.code == 0, answer.err
    assert answer.out.splitlines()[0].startswith("robust: 'wide' has the highest mean")
    model, base = load_trained(Path("robust"))
    assert base.name.endswith("merged")
    moved = restore(_config(finished, "wide"), Workbench())
    for parameter in moved.parameters():
        parameter.data += 0.05
    pixels = torch.rand(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model.encode_images(pixels), moved.model.encode_images(pixels), atol=1e-4, rtol=1e-4)
    again = told("export", "--model", "robust")
    assert (again.code, "'robust' exists already; a model needs a new or empty folder" in again.err) == (2, True)
    seed = told("export", "--model", "other", "--arm", "plain", "--json")
    assert set(json.loads(seed.out)["exports"]) == {"merged", "adapter", "adapter-transformers"}


def _config(folder: StudyFolder, arm: str):
    from advlora_platform.study import reopen

    study, _ = reopen(folder.path)
    return trials_of(study).trial(arm, 0, study.arm_values[arm], "ablate").config


def test_the_card_says_what_was_measured_and_how(told):
    told("export", "--model", "robust")
    card = ModelCard.load("robust/README.md")
    assert (card.data.license, card.data.library_name, card.data.model_name) == ("mit", "peft", "parts-wide")
    rows = {row.metric_name: row for row in card.data.eval_results}
    assert set(rows) == {"test robust 8/255", "test clean"}
    robust = rows["test robust 8/255"]
    assert (robust.task_type, robust.dataset_name, robust.dataset_split) == (
        "zero-shot-image-classification",
        "fashion-mnist",
        "test",
    )
    arguments = robust.metric_args
    assert (arguments["images"], arguments["seeds"], arguments["confidence"]) == (20, [0, 1], 0.95)
    assert arguments["interval"][0] < arguments["mean_over_seeds"] < arguments["interval"][1]
    assert "PGD" in arguments["protocol"]
    for said in ("## Limits", "no\n  certificate", "advlora train train.yaml", "c0ffee", "`adapter-transformers/`"):
        assert said in card.text


def test_the_card_gives_the_numbers_of_this_model_beside_the_mean(told, finished):
    told("export", "--model", "robust")
    (row,) = [line for line in Path("robust/README.md").read_text().splitlines() if line.startswith("| test robust")]
    own, mean, images = (cell.strip() for cell in row.strip("|").split("|")[1:])
    record = json.loads(next(iter(sorted(finished.ledger.glob("*.json")))).read_text())
    assert {TEST_ROBUST, TEST_CLEAN} <= set(record["metrics"])
    assert float(own) == pytest.approx(65.0)  # 10 + 0 + 2.5 of 20 images, the first seed
    assert mean.startswith("67.5 (")
    assert images == "20"


def test_a_dry_run_lists_files_and_prints_the_card(told):
    answer = told("push", ADDRESS, "--dry-run")
    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    assert lines[0] == "would upload to me/robust:"
    assert {"  README.md", "  train.yaml", "  adapter/adapter_model.safetensors", "  merged/tokenizer.json"} <= set(
        lines
    )
    assert "license: mit" in lines
    assert json.loads(told("push", ADDRESS, "--dry-run", "--json").out)["commit"] is None


@pytest.mark.parametrize("address", ["me/robust", "hf://robust", "hf://me/ro/bust", "hf://me/..", "https://hf.co/me/r"])
def test_an_address_of_another_form_is_refused(told, address):
    answer = told("push", address, "--dry-run")
    assert answer.code == 2
    assert f"'{address}'" in answer.err


def test_a_hub_that_is_not_there_is_one_sentence(told):
    answer = told("push", ADDRESS)  # tests run with the hub switched off
    assert answer.code == 2
    assert "error: the hub did not take 'me/robust': " in answer.err
    assert "Traceback" not in answer.err


def test_a_trial_without_its_weights_is_one_sentence(told, finished):
    for state in finished.path.rglob("state.pt"):
        state.rename(state.with_suffix(".away"))
    answer = told("export", "--model", "robust")
    for state in finished.path.rglob("state.away"):
        state.rename(state.with_suffix(".pt"))
    assert answer.code == 2
    assert "state.pt was removed (see 'keep' in the study) or is damaged" in answer.err
