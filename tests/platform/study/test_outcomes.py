from __future__ import annotations

import numpy as np
import pytest
import torch

from advlora.evaluation.outcomes import Outcomes
from advlora.evaluation.rankings import Rankings
from advlora.evaluation.recall import Ranks
from advlora_platform.study.outcomes import OUTCOMES_FILE, load_outcomes, save_outcomes, scores

pytestmark = pytest.mark.unit

CHANCE = torch.Generator().manual_seed(0)
EPSILON = 8 / 255


def ranks() -> Ranks:
    return Ranks(*(torch.randint(0, 12, (size,), generator=CHANCE) for size in (40, 100)))


def rankings() -> Rankings:
    """40 images, 100 captions, of which an image has one to four; by similarity and re-ranked."""
    owner = torch.arange(40).repeat_interleave(torch.tensor([1, 2, 3, 4]).repeat(10))
    return Rankings(
        {"": ranks(), "itm_": ranks()},
        {EPSILON: {"": ranks(), "itm_": ranks()}, 0.1: {"": ranks(), "itm_": ranks()}},
        owner,
    )


def classified() -> Outcomes:
    clean = torch.rand(1000, generator=CHANCE) < 0.8
    return Outcomes(clean, {EPSILON: clean & (torch.rand(1000, generator=CHANCE) < 0.5)})


def test_every_accuracy_is_the_mean_of_what_its_examples_add(tmp_path):
    found = classified()
    save_outcomes(tmp_path, found.by_example("test"))
    rows = load_outcomes(tmp_path)
    for metric, value in found.metrics("test").items():
        assert scores(rows, metric).mean() == pytest.approx(value, abs=1e-12)


def test_every_recall_is_the_mean_over_images_of_what_their_queries_add(tmp_path):
    found = rankings()
    save_outcomes(tmp_path, found.by_example("val"))
    rows = load_outcomes(tmp_path)
    recalls = {name: value for name, value in found.metrics("val").items() if "success" not in name}
    assert len(recalls) == 3 * (1 + 2 * 7)
    for metric, value in recalls.items():
        assert scores(rows, metric).shape == (40,)
        assert scores(rows, metric).mean() == pytest.approx(value, abs=1e-12)


def test_what_is_no_mean_over_examples_has_no_scores(tmp_path):
    save_outcomes(tmp_path, rankings().by_example("test"))
    rows = load_outcomes(tmp_path)
    for metric in ("test/success_tr_r1:8_255", "test/attack_success_rate", "val/clean_r1", "cost/seconds"):
        assert scores(rows, metric) is None
    assert scores({}, "test/clean_r1") is None


def test_they_are_compact_and_no_reader_runs_code_from_them(tmp_path):
    save_outcomes(tmp_path, {f"test/robust_r1:{number}": classified().clean for number in range(10)})
    assert (tmp_path / OUTCOMES_FILE).stat().st_size < 10 * 400
    np.savez(tmp_path / OUTCOMES_FILE, evil=np.array([{"a": 1}], dtype=object))
    assert load_outcomes(tmp_path) == {}


def test_a_trial_without_them_has_none_and_a_damaged_file_is_said(tmp_path, caplog):
    assert load_outcomes(tmp_path) == {}
    save_outcomes(tmp_path, {})
    assert list(tmp_path.iterdir()) == []
    save_outcomes(tmp_path, classified().by_example("test"))
    file = tmp_path / OUTCOMES_FILE
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 0xFF
    file.write_bytes(content)
    assert load_outcomes(tmp_path) == {}
    assert "is damaged" in caplog.text
    file.write_bytes(content[: len(content) // 2])
    assert load_outcomes(tmp_path) == {}


def test_the_mean_over_sets_has_the_variance_of_a_stratified_sample():
    sizes, name = {"cars": 400, "pets": 100}, "robust_r1:8_255"
    rows = {f"test/transfer/{each}/{name}": np.arange(size) % 5 < 2 + (each == "pets") for each, size in sizes.items()}
    rows |= {"test/robust_r1:8_255": np.ones(9, bool), "test/transfer/cars/clean_r1": np.ones(400, bool)}
    found = scores(rows, f"test/transfer/{name}")
    assert (len(found), found.mean()) == (500, pytest.approx((0.4 + 0.6) / 2))
    assert found.var() / 500 == pytest.approx((0.4 * 0.6 / 400 + 0.6 * 0.4 / 100) / 4)
    assert scores(rows, f"test/transfer/pets/{name}").mean() == pytest.approx(0.6)
    assert scores(rows, "test/transfer/robust_mean_per_class:8_255") is None
