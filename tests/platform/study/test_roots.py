from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest

from advlora.config import DataConfig, EvaluationProtocol, TrialConfig, parse
from advlora.data.manifest import data_folder
from advlora_platform.study.roots import Roots
from advlora_platform.study.trials import TrialFactory, to_tune

pytestmark = pytest.mark.unit
ROOTS = Roots("/driver", "/home/ann")


def trial(**sections) -> TrialConfig:
    return ROOTS.trial(parse(TrialConfig, sections))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("sets/emoji", "/driver/sets/emoji"),
        ("~/sets", "/home/ann/sets"),
        ("/mnt/sets", "/mnt/sets"),
        ("emoji", "emoji"),  # an embedded one
    ],
)
def test_a_data_set_is_looked_for_where_the_driver_runs(name, found):
    assert trial(data={"name": name}).data.name == found


def test_a_model_in_a_folder_is_looked_for_where_the_driver_runs_and_a_name_stays_one():
    hub = {"source": "open_clip", "name": "ViT-B-32", "pretrained": "openai"}
    folder = {"source": "open_clip", "name": "local-dir:models/vit"}
    assert trial(model=folder).model.name == "local-dir:/driver/models/vit"
    assert trial(model=hub).model.model_dump() == hub
    assert trial().model == TrialConfig().model


def test_a_checkpoint_file_is_told_from_a_tag(tmp_path):
    (tmp_path / "vit.safetensors").touch()
    model = parse(TrialConfig, {"model": {"source": "open_clip", "name": "ViT-B-32", "pretrained": "vit.safetensors"}})
    assert Roots(str(tmp_path), "").trial(model).model.pretrained == str(tmp_path / "vit.safetensors")
    assert ROOTS.trial(model).model.pretrained == "vit.safetensors"


def test_a_language_model_of_a_protocol_is_looked_for_where_the_driver_runs():
    attacks = [{"kind": "sga", "words": "local-dir:bert"}, {"kind": "co-attack", "words": "bert-base-uncased"}]
    protocol = ROOTS.protocol(parse(EvaluationProtocol, {"attacks": attacks}))
    assert [attack.words for attack in protocol.attacks] == ["local-dir:/driver/bert", "bert-base-uncased"]


@pytest.fixture
def sets(tmp_path, monkeypatch) -> Path:
    """What describes an embedded data set, twice; the second has a template more."""
    content = json.loads((data_folder(DataConfig(name="fashion-mnist")) / "dataset.json").read_text())
    templates = {"first": content["templates"], "second": [*content["templates"], "another {}"]}
    for name, own in templates.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "dataset.json").write_text(json.dumps({**content, "templates": own}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_process_elsewhere_builds_the_trial_of_the_driver(sets, monkeypatch):
    factory = TrialFactory({"data": {"name": "first"}}, EvaluationProtocol(), "d")
    written = to_tune(factory.trial("a", 0, {"data.name": "second"}, "ablate"))
    monkeypatch.chdir("/")
    there = pickle.loads(pickle.dumps(factory))
    config, _ = there.located(there.from_tune(written))
    assert config.data.name == str(sets / "second")


def test_a_trial_is_known_by_the_content_of_its_own_data_set_and_not_by_its_place(sets):
    def id_of(name: str, base: str = "first") -> str:
        factory = TrialFactory({"data": {"name": base}}, EvaluationProtocol(), "of the base")
        return factory.trial("a", 0, {"data.name": name}, "ablate").id

    shutil.copytree(sets / "second", sets / "moved")
    assert id_of("first") == id_of("moved", base="moved")  # both are the base's
    assert id_of("second") == id_of(str(sets / "moved")) != id_of("first")
