from __future__ import annotations

import json

import pytest

from advlora.errors import ConfigError
from advlora_platform.measure import read_record, record_file, write_record
from tests.platform.measure.made_up import changed, record

pytestmark = pytest.mark.unit


def test_a_record_comes_back_as_it_was(tmp_path):
    write_record(record(), tmp_path / "deeper" / "r.json")
    assert read_record(tmp_path / "deeper" / "r.json") == record()


def test_the_examples_are_left_out_where_people_read():
    assert "examples" not in record().brief()
    assert record().brief()["metrics"] == record().metrics


def test_the_same_measurement_has_the_same_file_and_another_one_another():
    file = record_file(record())
    assert file.parent.name == "records"
    assert file.name.startswith("best-model-strong-")
    assert record_file(record(seconds=99.0)) == file
    others = [
        changed("model", weights="bb"),
        changed("data", split="val"),
        record(protocol_hash="p2"),
        record(provenance={"code_version": "c2"}),
    ]
    assert len({file, *map(record_file, others)}) == 5


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "5 examples"),
        ({"asked": 5}, "5 examples"),
        ({"asked": 1000}, "5 examples of the 1000 asked for"),
        ({"classes": 10, "classes_seen": 3}, "5 examples of 3 of 10 classes"),
        ({"asked": 8, "classes": 2, "classes_seen": 2}, "5 examples of the 8 asked for of 2 of 2 classes"),
    ],
)
def test_a_record_says_how_much_of_the_data_it_shows(changes, said):
    assert changed("data", **changes).data.describe() == said


def test_a_name_cannot_leave_the_folder():
    assert record_file(changed("model", name="../../a b")).name.startswith("a-b-strong-")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot read"),
        ("{", "is not valid JSON"),
        ("[]", "is not a record"),
        ('{"metrics": {}}', "is not a record"),
        (json.dumps({**record().model_dump(mode="json"), "seconds": "long"}), r"r\.json: seconds: 'long'"),
        (json.dumps({**record().model_dump(mode="json"), "metrcs": {}}), "did you mean 'metrics'"),
    ],
)
def test_what_is_no_record_is_one_sentence(tmp_path, content, said):
    path = tmp_path / "r.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=said) as caught:
        read_record(path)
    assert len(caught.value.problems) == 1
