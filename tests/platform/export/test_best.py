from __future__ import annotations

import pytest
import yaml

from advlora.config import TrialConfig, parse
from advlora.config.adapters import FullFineTuning
from advlora.errors import ConfigError
from advlora_platform.export import check_reproduction, provenance, read_best
from advlora_platform.training import read_training

pytestmark = pytest.mark.unit


@pytest.fixture
def best(tmp_path):
    """Writes a `best.yaml` and returns its path."""

    def write(**content):
        path = tmp_path / "best.yaml"
        trial = parse(TrialConfig, {"adapter": {"rank": 4}}).model_dump(mode="json")
        metrics = {"val/clean_r1": 0.9, "val/robust_r1:8_255": 0.6, "cost/seconds": 3.0}
        path.write_text(yaml.safe_dump({"trial": trial, "provenance": {"metrics": metrics}, **content}))
        return path

    return write


def test_a_best_configuration_comes_back_as_it_was(best):
    assert read_best(best(name="n")).trial.adapter.rank == 4


def test_only_validation_metrics_must_reproduce(best):
    read = read_best(best())
    assert check_reproduction(read, {"val/clean_r1": 0.9, "val/robust_r1:8_255": 0.6, "cost/seconds": 9.0}) == {}
    changed = check_reproduction(read, {"val/clean_r1": 0.9, "val/robust_r1:8_255": 0.61})
    assert changed == {"val/robust_r1:8_255": (0.6, 0.61)}


def test_a_metric_that_did_not_come_out_is_a_difference(best):
    assert check_reproduction(read_best(best()), {"val/clean_r1": 0.9}) == {"val/robust_r1:8_255": (0.6, None)}


def test_every_problem_of_a_file_is_said(best):
    with pytest.raises(ConfigError) as error:
        read_best(best(trial={"adapter": {"rnk": 4, "rank": 0}}))
    assert len(error.value.problems) == 2


def test_training_can_change_a_key_and_then_compares_with_nothing(best):
    training = read_training(best(), ["adapter.rank=2", "protocol.samples.val=10"])
    assert training.trial.adapter.rank == 2
    assert training.protocol.samples.val == 10
    assert training.provenance == {}
    assert read_training(best()).provenance["metrics"]


def test_training_can_choose_another_method_than_the_file(best):
    assert read_training(best(), ["adapter=full", "attack.kind=none"]).trial.adapter == FullFineTuning()
    with pytest.raises(ConfigError, match=r"adapter\.rank: has no effect"):
        read_training(best(), ["adapter=full", "adapter.rank=2"])


def test_a_file_without_a_trial_is_refused(best, tmp_path):
    (tmp_path / "x.yaml").write_text("name: x\n")
    with pytest.raises(ConfigError, match="key 'trial' is required"):
        read_training(tmp_path / "x.yaml")


def test_provenance_names_code_and_versions_but_no_place_or_person():
    found = provenance()
    assert {"commit", "dirty", "code_version", "versions", "python", "machine"} == set(found)
    assert found["versions"]["torch"]
    assert "/" not in found["machine"]
