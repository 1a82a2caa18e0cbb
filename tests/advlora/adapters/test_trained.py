from __future__ import annotations

import json
import shutil

import pytest
import torch

from advlora.adapters import load_adapter, load_trained, save_trained
from advlora.config import ModelConfig, parse
from advlora.errors import ModelError
from advlora.evaluation.evaluator import Evaluator
from advlora.models import Preprocessing
from advlora.training.trainer import restore
from tests.advlora.short_trials import FINISHED, PROTOCOL, trial

pytestmark = pytest.mark.unit

BASE = ModelConfig()


@pytest.fixture(scope="module")
def pixels(bench):
    return bench.split(trial().data, "test", Preprocessing(28), 16).images.float() / 255


@pytest.fixture(scope="module")
def adapted(bench, finished):
    return restore(trial(FINISHED), bench, finished[-1].state)


@pytest.fixture(scope="module")
def saved(adapted, pixels, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "deeper"
    save_trained(adapted, BASE, adapted.config, folder, pixels[:4])
    return folder


@torch.no_grad()
def close(model, adapted, pixels):
    torch.testing.assert_close(model.encode_images(pixels), adapted.model.encode_images(pixels), rtol=1e-4, atol=1e-4)


def test_a_finished_trial_comes_back_from_disk(saved, adapted, bench, pixels):
    model, config = load_trained(saved)
    close(model, adapted, pixels)
    start = bench.model(BASE).encode_images(pixels)
    assert (model.encode_images(pixels) - start).abs().max() > 0.05
    assert torch.equal(bench.text_features(config, ("a boot",)), bench.text_features(BASE, ("a boot",)))


def test_the_adapter_on_its_base_is_the_merged_model(saved, adapted, pixels):
    on_base, (merged, _) = load_adapter(BASE, saved / "adapter"), load_trained(saved)
    torch.testing.assert_close(on_base.encode_images(pixels), merged.encode_images(pixels), rtol=1e-4, atol=1e-4)
    close(on_base, adapted, pixels)


def test_where_the_merged_model_is_gone_the_adapter_serves(saved, adapted, pixels, tmp_path):
    folder = shutil.copytree(saved, tmp_path / "slim")
    shutil.rmtree(folder / "merged")
    model, config = load_trained(folder)
    assert config == BASE
    close(model, adapted, pixels)
    shutil.rmtree(folder / "adapter")
    with pytest.raises(ModelError, match=r"adapter_config\.json"):
        load_trained(folder)


def test_the_loaded_model_has_the_metrics_of_the_last_report(saved, finished, bench):
    model, config = load_trained(saved)
    metrics = Evaluator(model, trial().data, PROTOCOL, bench, config).measure("test", curve=True).metrics
    expected = {name: finished[-1].metrics[name] for name in metrics}
    assert metrics == pytest.approx(expected, abs=1.01 / PROTOCOL.samples.test)


def test_the_record_names_base_and_adapter(saved, adapted):
    record = json.loads((saved / "trained.json").read_text())
    assert parse(ModelConfig, record["base"]) == BASE
    assert record["adapter"] == adapted.config.model_dump(mode="json")
    assert max(error for errors in record["export_errors"].values() for error in errors.values()) <= 1e-4


def test_a_full_fine_tuning_has_no_adapter_to_save(bench, pixels, tmp_path):
    adapted = restore(trial({"adapter.kind": "full"}), bench)
    with torch.no_grad():
        for parameter in adapted.parameters():
            parameter.mul_(1.01)
    paths = save_trained(adapted, BASE, adapted.config, tmp_path, pixels[:4])
    assert paths == {"merged": tmp_path / "merged"}
    assert not (tmp_path / "adapter").exists()
    close(load_trained(tmp_path)[0], adapted, pixels)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"base": "x'])
def test_a_folder_without_a_readable_record_is_said_so(tmp_path, content):
    (tmp_path / "trained.json").write_text(content)
    with pytest.raises(ModelError, match=r"no readable trained\.json"):
        load_trained(tmp_path)
