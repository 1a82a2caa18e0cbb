"""Further data sets by name and by folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from advlora.config import TransferConfig, parse
from advlora.data.layouts import forget_listings
from advlora.data.transfer import SUITES, measured_split, set_names, transfer_hash, transfer_sets
from advlora.errors import ConfigError, DataError
from tests.advlora.data.class_folders import class_folders, image

pytestmark = pytest.mark.unit


def config(root: Path | str, *sets: object) -> TransferConfig:
    return parse(TransferConfig, {"root": str(root), "sets": sets}, "transfer.")


def refused(given: TransferConfig) -> list[str]:
    with pytest.raises(DataError) as raised:
        transfer_sets(given)
    return raised.value.problems


def test_suites_hold_as_many_sets_as_their_names_say() -> None:
    assert {name: len(set(sets)) for name, sets in SUITES.items()} == {"fare-13": 13, "tecoa-15": 15}
    assert set_names(config(".", "fare-13", {"name": "a/My Pets"}, "tecoa-15"))[12:15] == (
        "imagenet_sketch",
        "My-Pets",
        "caltech256",
    )


def test_a_suite_is_found_below_its_root_under_either_name(tmp_path: Path, monkeypatch) -> None:
    for number, name in enumerate(SUITES["fare-13"]):
        (tmp_path / f"{('wds_', 'wds_vtab-', '')[number % 3]}{name}").mkdir()
    monkeypatch.chdir(tmp_path.parent)
    monkeypatch.setenv("SETS", tmp_path.name)
    found = transfer_sets(config("$SETS", {"name": "fare-13", "templates": "openai", "store": "disk"}))
    assert tuple(each.name for each in found) == SUITES["fare-13"]
    assert [each.data.name for each in found[:3]] == [
        str(tmp_path / name) for name in ("wds_cifar10", "wds_vtab-stl10", "cifar100")
    ]
    assert {(each.data.templates, each.data.store) for each in found} == {("openai", "disk")}


def test_what_a_suite_lacks_is_said_in_one_sentence(tmp_path: Path) -> None:
    for name in SUITES["fare-13"][2:]:
        (tmp_path / name).mkdir()
    (sentence,) = refused(config(tmp_path, "fare-13"))
    assert sentence.startswith(f"transfer.root: folder '{tmp_path}' lacks 2 of the 13 sets of 'fare-13': ")
    assert "'fare-13': cifar10, stl10; each is" in sentence
    assert "'cifar10' is called wds_cifar10 or wds_vtab-cifar10 or cifar10" in sentence


def test_a_set_is_an_embedded_one_or_a_folder_and_stands_once(tmp_path: Path) -> None:
    for place in ("mine", "other/mine", "fashion-mnist"):
        (tmp_path / place).mkdir(parents=True)
    found = transfer_sets(config(tmp_path, "fashion-mnist", "mine", str(tmp_path / "mine")))
    assert [(each.name, each.data.name) for each in found] == [
        ("fashion-mnist", "fashion-mnist"),
        ("mine", str(tmp_path / "mine")),
    ]
    assert refused(config(tmp_path, "mine", "other/mine")) == ["transfer.sets: 2 sets are called 'mine'; keep one"]
    (unknown,) = refused(config(tmp_path, "fare13"))
    assert unknown.startswith("transfer.sets: 'fare13' is no folder in ")
    assert unknown.endswith("did you mean 'fare-13'?")


def test_a_backdoor_has_no_place_in_a_suite() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'transfer.sets.0.poison'; allowed: name, layout, classes"):
        config(".", {"name": "mine", "poison": {"kind": "badnets"}})
    with pytest.raises(ConfigError, match=r"transfer.sets"):
        config(".")


def test_sets_are_identified_by_their_names_and_content_not_by_their_place(tmp_path: Path) -> None:
    for place in ("a/pets", "b/pets", "b/animals", "c/pets"):
        class_folders(tmp_path / place)
    image(tmp_path / "c" / "pets" / "test" / "dog" / "more.png", 77)

    def identity(root: str, name: str) -> str:
        return transfer_hash(transfer_sets(config(tmp_path / root, name)))

    assert identity("a", "pets") == identity("b", "pets")
    assert len({identity("a", "pets"), identity("b", "animals"), identity("c", "pets"), transfer_hash(())}) == 4


def test_a_set_whose_test_labels_are_not_public_is_measured_on_val(tmp_path: Path) -> None:
    (pets,) = transfer_sets(config(class_folders(tmp_path / "pets").parent, "pets"))
    assert measured_split(pets.manifest) == "test"
    shutil.rmtree(tmp_path / "pets" / "test")
    forget_listings()
    assert measured_split(pets.manifest) == "val"
    shutil.rmtree(tmp_path / "pets" / "val")
    forget_listings()
    assert measured_split(pets.manifest) is None
