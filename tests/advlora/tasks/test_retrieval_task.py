from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from advlora.config import DataConfig, EvaluationProtocol, TrialConfig, parse
from advlora.data import ImageTextSet
from advlora.distributed import Group
from advlora.errors import ConfigError, DataError
from advlora.models import load_model
from advlora.tasks.recall import image_ranks, recalls, text_ranks
from advlora.tasks.retrieval import candidates, evaluate_retrieval, first
from advlora.trainer import fine_tune
from advlora.workbench import Workbench

pytestmark = pytest.mark.unit

CPU = torch.device("cpu")
OWNER = torch.tensor([0, 0, 1, 2])


def protocol(**values) -> EvaluationProtocol:
    attack = {"steps": 3, "step_size": 0.02}
    return parse(EvaluationProtocol, {"attacks": [attack], "epsilon": 0.05, "batch_size": 4, **values})


@pytest.fixture(scope="module")
def data() -> ImageTextSet:
    images = torch.randint(0, 256, (10, 3, 16, 16), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    words = ["cat", "dog", "red", "boot", "dress", "the", "on", "photo", "of", "a"]
    captions = tuple(f"a photo of {word}" for word in words)
    others = tuple((f"the {word} {word} on a {word}",) for word in words)
    return ImageTextSet(images, torch.zeros(10, dtype=torch.int64), captions, others)


def test_ranks_by_hand() -> None:
    scores = torch.tensor([[0.1, 0.5, 0.9, 0.2], [0.3, 0.3, 0.4, 0.8], [0.0, 0.7, 0.1, 0.6]])
    assert text_ranks(scores, OWNER).tolist() == [1, 1, 1]
    assert image_ranks(scores, OWNER).tolist() == [1, 1, 1, 1]
    perfect = torch.nn.functional.one_hot(OWNER, 3).T.float()
    assert set(recalls(perfect, perfect, OWNER).values()) == {1.0}


def test_recalls_count_ranks_below_the_depth() -> None:
    scores = -torch.arange(12.0).repeat(12, 1)
    found = recalls(scores, scores.T, torch.arange(12))
    assert found["tr_r1"] == pytest.approx(1 / 12)
    assert found["tr_r5"] == pytest.approx(5 / 12)
    assert found["ir_r10"] == pytest.approx(10 / 12)
    assert found["mean_recall"] == pytest.approx((1 + 5 + 10) / 12 / 3)


def test_a_model_that_tells_nothing_apart_finds_nothing() -> None:
    same = torch.zeros(20, 20)
    assert set(recalls(same, same, torch.arange(20)).values()) == {0.0}


def test_clean_recall_is_that_of_the_similarities(tiny, data) -> None:
    model = load_model(tiny("clip"))
    metrics = evaluate_retrieval(model, data, protocol(), split="val", curve=False, device=CPU)
    captions = [caption for own in data.references for caption in own]
    images = normalize(model.encode_images(data.images.float() / 255), dim=1)
    scores = images @ normalize(model.encode_texts(captions), dim=1).T
    expected = recalls(scores, scores, torch.arange(10).repeat_interleave(2))
    assert {name: metrics[f"val/clean_{name}"] for name in expected} == pytest.approx(expected)
    assert metrics["val/clean_r1"] == expected["tr_r1"]


def trained(tiny, data):
    """A model that finds most captions, so that an attack has something to break."""
    model = load_model(tiny("clip"))
    texts = normalize(model.encode_texts(data.captions), dim=1)
    parameters = list(model.tower("vision").parameters().values())
    optimiser = torch.optim.Adam([p.requires_grad_() for p in parameters], lr=3e-3)
    for _ in range(200):
        features = normalize(model.encode_images(data.images.float() / 255), dim=1)
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(20 * features @ texts.T, torch.arange(10)).backward()
        optimiser.step()
    return model.requires_grad_(False)


def test_attack_lowers_recall_and_more_so_with_strength(tiny, data) -> None:
    model = trained(tiny, data)
    first_only = ImageTextSet(data.images, data.labels, data.captions)
    settings = protocol(curve=[0.001, 0.21], attacks=[{"steps": 3}, {"steps": 3, "loss": "margin"}])
    metrics = evaluate_retrieval(model, first_only, settings, split="test", curve=True, device=CPU)
    clean, weak, strong = (metrics[f"test/{name}"] for name in ("clean_r1", "robust_r1:0.001", "robust_r1:0.21"))
    assert clean >= 0.6
    assert clean >= weak >= strong
    assert strong <= 0.3
    assert metrics["test/robust_mean_recall:0.21"] < metrics["test/clean_mean_recall"]
    assert metrics["test/robust_r1:0.05"] == metrics["test/robust_tr_r1:0.05"]


def test_a_second_attack_never_helps_the_model(tiny, data) -> None:
    model = trained(tiny, data)
    settings = protocol(epsilon=0.02)
    one = evaluate_retrieval(model, data, settings, split="val", curve=False, device=CPU)
    several = settings.model_copy(update={"attacks": settings.attacks * 2})
    two = evaluate_retrieval(model, data, several, split="val", curve=False, device=CPU)
    assert two["val/robust_r1:0.02"] <= one["val/robust_r1:0.02"]


def test_numbers_do_not_depend_on_batches_or_processes(tiny, data) -> None:
    model = load_model(tiny("blip"))
    settings = protocol(rerank=3)
    whole = evaluate_retrieval(model, data, settings, split="val", curve=False, device=CPU)

    class Recorded(Group):
        """Sums what two processes would have, of which the other one ran before."""

        def sum(self, tensor):
            sums.append(tensor)
            return tensor + before.pop(0) if before else tensor

    before: list = []
    sums: list = []
    # The re-ranking candidates need the sum of both, so the processes are compared without it.
    plain = settings.model_copy(update={"rerank": 0})
    evaluate_retrieval(model, data, plain, split="val", curve=False, device=CPU, group=Recorded(0, 2))
    before, sums = sums, []
    shared = evaluate_retrieval(model, data, plain, split="val", curve=False, device=CPU, group=Recorded(1, 2))
    assert shared == {name: value for name, value in whole.items() if "itm" not in name}
    small = settings.model_copy(update={"batch_size": 3})
    assert evaluate_retrieval(model, data, small, split="val", curve=False, device=CPU) == whole


def test_all_candidates_re_ranked_is_the_matching_order(tiny, data) -> None:
    model = load_model(tiny("blip"))
    found = evaluate_retrieval(model, data, protocol(rerank=100), split="val", curve=False, device=CPU)
    captions = [caption for own in data.references for caption in own]
    images = data.images.float() / 255
    matching = torch.stack([model.score_pairs(image.expand(20, -1, -1, -1), captions) for image in images])
    similarity = (
        normalize(model.encode_images(images), dim=1) @ normalize(model.encode_texts(captions), dim=1).T
    )  # fmt: skip
    scores = similarity + matching
    expected = recalls(scores, scores, torch.arange(10).repeat_interleave(2))
    assert {name: found[f"val/clean_itm_{name}"] for name in expected} == pytest.approx(expected)
    assert "val/robust_itm_mean_recall:0.05" in found


def test_candidates_come_first_in_their_new_order() -> None:
    similarity = torch.tensor([[0.9, 0.8, 0.1], [0.5, 0.6, 0.7]])
    rows = candidates(similarity, 2, 1)
    assert rows.tolist() == [[True, True, False], [False, True, True]]
    assert candidates(similarity, 1, 0).tolist() == [[True, True, False], [False, False, True]]
    ordered = first(similarity, torch.tensor([[-5.0, -4.0, 9.0], [0.0, 3.0, 2.0]]), rows)
    assert ordered.argsort(1, descending=True).tolist() == [[1, 0, 2], [1, 2, 0]]


def test_what_retrieval_does_not_know_is_refused(tiny, data) -> None:
    model = load_model(tiny("clip"))
    with pytest.raises(ConfigError, match=r"protocol\.rerank: needs images, and a model with a matching head"):
        evaluate_retrieval(model, data, protocol(rerank=2), split="val", curve=False, device=CPU)
    video = ImageTextSet(data.images[:, None], data.labels, data.captions)
    with pytest.raises(ConfigError, match="'l2' is not defined for videos"):
        evaluate_retrieval(model, video, protocol(attacks=[{"norm": "l2"}]), split="val", curve=False, device=CPU)


def karpathy(folder: Path) -> DataConfig:
    source, entries = np.random.default_rng(0), []
    for number in range(18):
        name = f"{number}.png"
        Image.fromarray(source.integers(0, 256, (16, 16, 3), np.uint8)).save(folder / name)
        split = ["train", "train", "train", "val", "test", "test"][number % 6]
        sentences = [{"raw": f"a {'red ' * (number % 4)}cat on {'the ' * (i + 1)} boot"} for i in range(2)]
        entries.append({"filename": name, "split": split, "sentences": sentences})
    (folder / "dataset_flickr30k.json").write_text(json.dumps({"images": entries}))
    return DataConfig(name=str(folder), layout="karpathy")


def test_a_trial_on_a_retrieval_set(tiny, tmp_path: Path) -> None:
    values = {
        "model": tiny("blip").model_dump(),
        "data": karpathy(tmp_path).model_dump(),
        "adapter": {"rank": 2, "tower": "both"},
        "loss": {"kind": "contrastive", "itm": 0.5},
        "optimiser": {"batch_size": 4, "epochs": 1},
    }
    reports = list(
        fine_tune(parse(TrialConfig, values), protocol(rerank=2), bench=Workbench(), test=True)
    )  # fmt: skip
    metrics = reports[-1].metrics
    assert {"val/clean_r1", "val/robust_r1:0.05", "test/clean_itm_tr_r1", "test/robust_ir_r5:0.05"} <= metrics.keys()
    assert all(0 <= value <= 1 for name, value in metrics.items() if name.startswith(("val", "test")))
    with pytest.raises(DataError, match="'cross_entropy' needs classes"):
        list(fine_tune(parse(TrialConfig, {**values, "loss": {}}), protocol(), bench=Workbench()))


def test_a_trial_on_videos(tiny, tmp_path: Path) -> None:
    videos = [(f"video{i}", split) for i, split in enumerate(["train"] * 4 + ["validate"] * 2 + ["test"] * 2)]
    sentences = [{"video_id": name, "caption": f"a dog on {'the ' * i} boot"} for i, (name, _) in enumerate(videos)]
    entries = [{"video_id": name, "split": split} for name, split in videos]
    (tmp_path / "MSRVTT_data.json").write_text(json.dumps({"videos": entries, "sentences": sentences}))
    source = np.random.default_rng(0)
    for name, _ in videos:
        (tmp_path / "frames" / name).mkdir(parents=True)
        for frame in range(3):
            picture = Image.fromarray(source.integers(0, 256, (16, 16, 3), np.uint8))
            picture.save(tmp_path / "frames" / name / f"{frame}.png")
    values = {
        "model": tiny("clip").model_dump(),
        "data": {"name": str(tmp_path), "layout": "msrvtt", "frames": 2},
        "adapter": {"rank": 2},
        "loss": {"kind": "contrastive"},
        "attack": {"kind": "fgsm_rs"},
        "optimiser": {"batch_size": 2, "epochs": 1},
    }
    (report,) = fine_tune(parse(TrialConfig, values), protocol(), bench=Workbench())
    assert 0 <= report.metrics["val/robust_mean_recall:0.05"] <= 1
