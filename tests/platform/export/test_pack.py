"""Packs: what they hold, that a changed number is found, and that nothing is run in the study's own folder."""

from __future__ import annotations

import json

import pytest

from advlora.data.layouts import forget_listings
from advlora.errors import ConfigError, UserError
from advlora_platform.cli import main
from advlora_platform.export import open_pack, seal
from advlora_platform.packing import write_pack
from advlora_platform.study import Ledger, StudyFolder, open_folder, read_json
from advlora_platform.study.environment import load_environment
from advlora_platform.verifying import draw, verify
from tests.advlora.data.class_folders import class_folders, image
from tests.builders import TEST_ROBUST as ROBUST
from tests.builders import ablation
from tests.platform.folders import run_made_up

pytestmark = pytest.mark.unit
STUDY = {"name": "parts", "seeds": [0, 1, 2], "base": {"data": {"train_samples": 64}}}


@pytest.fixture
def study():
    return ablation(**STUDY)


@pytest.fixture
def pack(study, tmp_path):
    return write_pack(study, run_made_up(study, tmp_path / "run"), tmp_path / "pack").folder.path


def edit(path, **changes):
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **changes}))


def a_record(pack):
    return sorted((pack / "ledger").glob("*.json"))[0]


def test_a_pack_holds_every_number_and_what_it_was_made_by(pack, tmp_path):
    names = {path.name for path in pack.iterdir()}
    assert {"study.yaml", "identity.json", "ledger", "trials", "summary.json", "report.html", "best.yaml"} <= names
    assert {"requirements.txt", "README.md", "pack.json"} <= names
    assert Ledger(StudyFolder(pack)).records() == Ledger(StudyFolder(tmp_path / "run")).records()
    content = open_pack(pack).content
    assert content["data"].keys() == {"fashion-mnist"}
    assert {"commit", "dirty", "code_version", "versions"} <= content["code"].keys()
    trial = a_record(pack).stem
    assert load_environment(pack / "trials" / trial)["device"] == "Abacus"
    assert any(line.startswith("torch==") for line in (pack / "requirements.txt").read_text().splitlines())
    assert "advlora verify PACK" in (pack / "README.md").read_text()


def test_its_digest_changes_with_any_number(pack):
    before = open_pack(pack)
    edit(pack / "summary.json", confidence=0.96)
    about = {key: value for key, value in before.content.items() if key != "files"}
    assert seal(pack, about).digest != before.digest


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda pack: edit(a_record(pack), metrics={ROBUST: 0.9}), "was changed after the pack was sealed"),
        (lambda pack: edit(pack / "summary.json", confidence=0.5), "summary.json was changed"),
        (lambda pack: (pack / "report.md").unlink(), "report.md is missing"),
        (lambda pack: (pack / "ledger" / "ff.json").write_text("{}"), "ledger/ff.json was added"),
    ],
)
def test_a_changed_file_is_found(pack, tmp_path, change, said):
    change(pack)
    with pytest.raises(UserError, match=said) as error:
        verify(pack, tmp_path / "again")
    assert len(error.value.problems) == 1
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"metrics": {ROBUST: 0.9}}, "is recorded as 0.9, and its outcomes give 0"),
        ({"seed": 7}, "its configuration is not that of arm"),
        ({"trial_id": "0123456789abcdef"}, "its configuration has the id"),
    ],
)
def test_a_number_that_was_edited_and_sealed_again_contradicts_the_rest(pack, tmp_path, changes, said):
    about = {key: value for key, value in open_pack(pack).content.items() if key != "files"}
    edit(a_record(pack), **changes)
    seal(pack, about)
    with pytest.raises(UserError, match=said):
        verify(pack, tmp_path / "again")


def test_other_data_are_refused_before_anything_is_run(pack, tmp_path):
    about = {**open_pack(pack).content, "data": {"fashion-mnist": "0"}}
    seal(pack, about)
    with pytest.raises(UserError, match="use the same data"):
        verify(pack, tmp_path / "again")


def test_nothing_is_verified_in_the_folder_of_the_study(pack, tmp_path):
    with pytest.raises(ConfigError, match="is where the pack comes from"):
        verify(pack, tmp_path / "run")


def test_a_folder_that_is_no_pack_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"it has no pack\.json"):
        open_pack(tmp_path)


def test_a_pack_needs_an_empty_folder_and_a_finished_trial(study, tmp_path):
    folder = open_folder(study, tmp_path / "run", {})
    with pytest.raises(UserError, match="no finished trial"):
        write_pack(study, folder, tmp_path / "pack")
    assert not (tmp_path / "pack").exists()
    with pytest.raises(UserError, match="new or empty"):
        write_pack(study, folder, tmp_path / "run")


def test_trials_of_another_definition_of_the_study_stay_behind(study, tmp_path):
    folder = run_made_up(study, tmp_path / "run")
    narrower = study.model_copy(update={"seeds": (0, 1)})
    open_folder(narrower, tmp_path / "run", {})
    assert len(Ledger(write_pack(narrower, folder, tmp_path / "pack").folder).records()) == 4
    assert read_json(folder.identity)["study_id"] == read_json(tmp_path / "pack" / "identity.json")["study_id"]


def test_a_draw_follows_from_its_seed_and_keeps_the_order(pack):
    records = Ledger(StudyFolder(pack)).records()
    assert draw(records, 3, 1) == draw(records, 3, 1)
    assert len({tuple(record.trial_id for record in draw(records, 2, seed)) for seed in range(9)}) > 3
    assert [records.index(record) for record in draw(records, 4, 2)] == sorted(
        records.index(record) for record in draw(records, 4, 2)
    )
    assert draw(records, None, 0) == draw(records, 99, 0) == records
    assert draw(records, 0, 0) == []


def test_the_commands_say_whether_a_pack_is_whole(pack, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["advlora", "verify", str(pack), "--trials", "0"])
    main()
    assert f"digest {open_pack(pack).digest}: no file was changed" in capsys.readouterr().out
    edit(a_record(pack), metrics={ROBUST: 0.9})
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2


def test_further_sets_are_sealed_by_their_content(tmp_path):
    folder = class_folders(tmp_path / "sets" / "mine")
    study = ablation(**STUDY, transfer={"root": str(tmp_path / "sets"), "sets": ["mine"]})
    path = write_pack(study, run_made_up(study, tmp_path / "run"), tmp_path / "pack").folder.path
    assert open_pack(path).content["data"].keys() == {"fashion-mnist", "transfer/mine"}
    image(folder / "test" / "dog" / "more.png", 99)
    forget_listings()
    with pytest.raises(UserError, match=r"data set 'transfer/mine' has the hash .* use the same data"):
        verify(path, tmp_path / "again")
