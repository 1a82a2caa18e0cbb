"""What a user looks up and starts from: keys, a composed trial, a new study, the schema."""

from __future__ import annotations

import json

import pytest

from advlora.config import EvaluationProtocol, TrialConfig, parse, parse_yaml
from advlora_platform.study.library import load_any, load_study
from advlora_platform.training import read_training

pytestmark = pytest.mark.unit


def test_keys_fit_a_terminal_and_begin_with_the_prefix(advlora):
    answer = advlora("keys", "adapter.alignment")
    lines = answer.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert all(line.startswith("adapter.alignment") for line in lines if not line.startswith(" "))
    assert "  number from 0; default 3.0; with adapter.kind lora" in lines


def test_keys_are_an_object_for_programs_and_a_mistake_has_a_neighbour(advlora):
    (found,) = json.loads(advlora("keys", "adapter.rank", "--json").out)["keys"][:1]
    assert (found["path"], found["default"]) == ("adapter.rank", "8")
    refused = advlora("keys", "adaptr.rank")
    assert (refused.code, "did you mean 'adapter.rank'?" in refused.err) == (2, True)


def test_show_prints_the_trial_of_an_arm_as_train_takes_it(advlora, tmp_path):
    shown = advlora("show", "quickstart", "--arm", "AdvLoRA", "--set", "adapter.rank=4").out
    study = load_study("quickstart", "ablation", ["adapter.rank=4"])
    content = parse_yaml(shown)
    assert parse(TrialConfig, content["trial"]) == study.trial_with(study.arm_values["AdvLoRA"])
    assert parse(EvaluationProtocol, content["protocol"]) == study.protocol
    (tmp_path / "trial.yaml").write_text(shown)
    assert read_training(tmp_path / "trial.yaml").trial.adapter.rank == 4


def test_show_without_an_arm_prints_the_base_and_names_the_arms(advlora):
    first = advlora("show", "quickstart").out.splitlines()[0]
    assert first.startswith("# the base of ablation 'quickstart'; arms: LoRA, ")
    assert json.loads(advlora("show", "advlora", "--json").out)["arms"] == []


def test_an_unknown_arm_is_one_sentence(advlora):
    answer = advlora("show", "quickstart", "--arm", "AdvLora")
    assert (answer.code, answer.err) == (2, "error: the study has no arm 'AdvLora'; did you mean 'AdvLoRA'?\n")


@pytest.mark.parametrize("kind", ["ablation", "sweep"])
def test_a_new_study_is_valid_named_by_its_file_and_never_written_over_another(advlora, tmp_path, kind):
    assert advlora("new", kind, "my-first.yaml").code == 0
    study = load_any(str(tmp_path / "my-first.yaml"))
    assert (study.kind, study.name) == (kind, "my-first")
    again = advlora("new", kind, "my-first.yaml")
    assert (again.code, again.err) == (2, "error: 'my-first.yaml' exists already; choose another name\n")


def test_a_new_study_needs_the_ending_by_which_it_is_found(advlora):
    assert "must end in .yaml" in advlora("new", "ablation", "study").err


def test_the_schema_is_printed_as_json(advlora):
    assert json.loads(advlora("schema").out)["title"] == "advlora study"
