from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from torch.nn.functional import normalize

from advlora.config import DataConfig, EvaluationProtocol, TrialConfig, parse
from advlora.data import ImageTextSet
from advlora.distributed import SOLO, Group
from advlora.errors import ConfigError, DataError
from advlora.evaluation.recall import ranks
from advlora.evaluation.reranking import matching
from advlora.evaluation.retrieval import Retrieval
from advlora.models import load_model
from advlora.training.trainer import fine_tune
from advlora.training.workbench import Workbench

pytestmark = pytest.mark.unit

RIGHT = torch.eye(10, dtype=torch.bool).repeat_interleave(2, dim=1)


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


def test_clean_recall_is_that_of_the_similarities(tiny, data) -> None:
    model = load_model(tiny("clip"))
    metrics = Retrieval(model, data, protocol()).metrics("val", curve=False)
    captions = [caption for own in data.references for caption in own]
    images = normalize(model.encode_images(data.images.float() / 255), dim=1)
    scores = images @ normalize(model.encode_texts(captions), dim=1).T
    expected = ranks(scores, scores, RIGHT).recalls()
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
    metrics = Retrieval(model, first_only, settings).metrics("test", curve=True)
    clean, weak, strong = (metrics[f"test/{name}"] for name in ("clean_r1", "robust_r1:0.001", "robust_r1:0.21"))
    assert clean >= 0.6
    assert clean >= weak >= strong
    assert strong <= 0.3
    assert metrics["test/robust_mean_recall:0.21"] < metrics["test/clean_mean_recall"]
    assert metrics["test/robust_r1:0.05"] == metrics["test/robust_tr_r1:0.05"]


def test_a_second_attack_never_helps_the_model(tiny, data) -> None:
    model = trained(tiny, data)
    settings = protocol(epsilon=0.02)
    one = Retrieval(model, data, settings).metrics("val", curve=False)
    several = settings.model_copy(update={"attacks": settings.attacks * 2})
    two = Retrieval(model, data, several).metrics("val", curve=False)
    assert two["val/robust_r1:0.02"] <= one["val/robust_r1:0.02"]


CAPTION_ATTACKS = [("set-level", False), ("co-attack", True), ("sga", True)]


def aimed(kind: str, bert: str, **values) -> dict:
    return {"kind": kind, "steps": 3, **({} if kind == "set-level" else {"words": bert}), **values}


@pytest.fixture(scope="module")
def model(tiny, data):
    return trained(tiny, data)


@pytest.mark.parametrize(("kind", "joint"), CAPTION_ATTACKS)
def test_attacks_on_captions_are_used_by_name(model, data, bert, kind: str, joint: bool) -> None:
    settings = protocol(attacks=[aimed(kind, bert)], epsilon=0.11)
    metrics = Retrieval(model, data, settings).metrics("val", curve=False)
    assert metrics["val/robust_mean_recall:0.11"] < metrics["val/clean_mean_recall"]
    assert 0.3 < metrics["val/success_tr_r1:0.11"] <= 1
    weak = settings.model_copy(update={"epsilon": 1e-6})
    least = Retrieval(model, data, weak).metrics("val", curve=False)
    assert (least["val/success_ir_r1:1e-06"] > 0) == joint, "an image that hardly moves leaves what words do"


def test_success_is_what_the_recalls_have_lost(model, data) -> None:
    found = Retrieval(model, data, protocol(epsilon=0.11)).metrics("val", curve=False)
    for name in ("tr_r1", "ir_r1", "ir_r5"):
        clean, robust = found[f"val/clean_{name}"], found[f"val/robust_{name}:0.11"]
        assert clean * found[f"val/success_{name}:0.11"] >= clean - robust - 1e-9


def test_a_query_is_found_only_if_every_attacker_leaves_it(model, data, bert) -> None:
    attacks = [{"steps": 3}, *(aimed(kind, bert) for kind, _ in CAPTION_ATTACKS)]

    def robust(chosen: list[dict]) -> dict[str, float]:
        settings = protocol(attacks=chosen, epsilon=0.01)
        found = Retrieval(model, data, settings).metrics("val", curve=False)
        return {name: value for name, value in found.items() if "/robust_" in name}

    together, alone = robust(attacks), [robust([attack]) for attack in attacks]
    assert all(value <= min(each[name] for each in alone) + 1e-9 for name, value in together.items())
    assert any(value < alone[0][name] for name, value in together.items())


def test_a_joint_attack_depends_neither_on_batches_nor_on_processes(tiny, data, bert) -> None:
    blip = load_model(tiny("blip"))
    settings = protocol(attacks=[aimed("sga", bert, scales=[0.5])])

    def measured(values: dict | None = None, group: Group = SOLO) -> dict[str, float]:
        changed = settings.model_copy(update=values or {})
        return Retrieval(blip, data, changed, group).metrics("val", curve=False)

    class Pair(Group):
        """One of two threads that meet at every collective operation."""

        def gather(self, value):
            box[self.rank] = value
            meeting.wait()
            values = [box[0], box[1]]
            meeting.wait()
            return values

        def sum(self, tensor):
            return torch.stack(self.gather(tensor)).sum(0)

    box, meeting = {}, Barrier(2, timeout=60)
    whole = measured()
    with ThreadPoolExecutor(2) as pool:
        halves = [pool.submit(measured, None, Pair(rank, 2)) for rank in range(2)]
        assert [half.result() for half in halves] == [whole, whole]
    assert measured({"batch_size": 3}) == whole


def test_matching_reads_the_changed_captions(tiny, data, bert) -> None:
    blip, read = load_model(tiny("blip")), set()
    settings = protocol(attacks=[aimed("sga", bert)], rerank=20)
    match = blip.match

    def noted(tokens, captions):
        read.update(captions)
        return match(tokens, captions)

    blip.match = noted
    found = Retrieval(blip, data, settings).metrics("val", curve=False)
    captions = [caption.split() for own in data.references for caption in own]
    changed = [words for words in map(str.split, read) if words not in captions]
    assert changed
    for words in changed:
        alike = [own for own in captions if len(own) == len(words)]
        assert 1 in {sum(one != other for one, other in zip(words, own, strict=True)) for own in alike}
    assert {"val/robust_itm_tr_r1:0.05", "val/success_itm_ir_r10:0.05"} <= found.keys()


def test_numbers_do_not_depend_on_batches_or_processes(tiny, data) -> None:
    model = load_model(tiny("blip"))
    settings = protocol(rerank=3)
    whole = Retrieval(model, data, settings).metrics("val", curve=False)

    class Recorded(Group):
        """Sums what two processes would have, of which the other one ran before."""

        def sum(self, tensor):
            sums.append(tensor)
            return tensor + before.pop(0) if before else tensor

    before: list = []
    sums: list = []
    # The re-ranking candidates need the sum of both, so the processes are compared without it.
    plain = settings.model_copy(update={"rerank": 0})
    Retrieval(model, data, plain, Recorded(0, 2)).metrics("val", curve=False)
    before, sums = sums, []
    shared = Retrieval(model, data, plain, Recorded(1, 2)).metrics("val", curve=False)
    assert shared == {name: value for name, value in whole.items() if "itm" not in name}
    small = settings.model_copy(update={"batch_size": 3})
    assert Retrieval(model, data, small).metrics("val", curve=False) == whole


def test_all_candidates_re_ranked_is_the_matching_order(tiny, data) -> None:
    model = load_model(tiny("blip"))
    found = Retrieval(model, data, protocol(rerank=100)).metrics("val", curve=False)
    captions = [caption for own in data.references for caption in own]
    images = data.images.float() / 255
    tokens = [model.image_tokens(image[None]).expand(20, -1, -1) for image in images]
    matched = torch.stack([model.match(each, captions)[:, 1] for each in tokens])
    similarity = (
        normalize(model.encode_images(images), dim=1) @ normalize(model.encode_texts(captions), dim=1).T
    )  # fmt: skip
    scores = similarity + matched
    expected = ranks(scores, scores, RIGHT).recalls()
    assert {name: found[f"val/clean_itm_{name}"] for name in expected} == pytest.approx(expected)
    assert "val/robust_itm_mean_recall:0.05" in found


def test_re_ranking_is_the_published_evaluation(tiny, data) -> None:
    """The scores of BLIP's `train_retrieval.py`: of the best candidates the second logit of the head and the cosine."""
    config, count = tiny("blip"), 4
    folder = config.name.removeprefix("local-dir:")
    net = transformers.BlipForImageTextRetrieval.from_pretrained(folder).eval()
    captions = [caption for own in data.references for caption in own]
    text = transformers.AutoTokenizer.from_pretrained(folder)(
        captions, padding="max_length", truncation=True, max_length=12, return_tensors="pt"
    )
    model = load_model(config)
    with torch.no_grad():
        image_feats = net.vision_model((data.images.float() / 255 - model.mean) / model.std).last_hidden_state
        image_embeds = normalize(net.vision_proj(image_feats[:, 0]), dim=-1)
        text_feats = net.text_encoder(text.input_ids, attention_mask=text.attention_mask).last_hidden_state
        sims = image_embeds @ normalize(net.text_proj(text_feats[:, 0]), dim=-1).T
        text.input_ids[:, 0] = net.config.text_config.vocab_size - 1  # [ENC]

        def score(images: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
            output = net.text_encoder(
                text.input_ids[numbers],
                attention_mask=text.attention_mask[numbers],
                encoder_hidden_states=images,
                encoder_attention_mask=torch.ones(images.shape[:2], dtype=torch.long),
            )
            return net.itm_head(output.last_hidden_state[:, 0])[:, 1]

        by_image, by_caption = torch.full(sims.shape, -100.0), torch.full(sims.shape, -100.0)
        for place, row in enumerate(sims):
            best, numbers = row.topk(count)
            by_image[place, numbers] = score(image_feats[place].expand(count, -1, -1), numbers) + best
        for number, column in enumerate(sims.T):
            best, places = column.topk(count)
            by_caption[places, number] = score(image_feats[places], torch.full((count,), number)) + best
    found = Retrieval(model, data, protocol(rerank=count)).metrics("val", curve=False)
    expected = ranks(by_image, by_caption, RIGHT).recalls()
    for name in ("tr_r1", "ir_r1"):  # beyond the candidates the published scores are all alike
        assert found[f"val/clean_itm_{name}"] == pytest.approx(expected[name])
    features = normalize(model.encode_images(data.images.float() / 255), dim=-1)
    torch.testing.assert_close(features, image_embeds, atol=1e-5, rtol=0)
    ours = matching(model, dict(enumerate(data.images.float() / 255)), captions, by_image > -100)
    torch.testing.assert_close((ours + sims)[by_image > -100], by_image[by_image > -100], atol=1e-4, rtol=0)


def test_equal_captions_are_right_for_every_image_that_has_them(tiny, data) -> None:
    model = load_model(tiny("clip"))
    same = ImageTextSet(data.images[:2], data.labels[:2], ("a dog", "a dog"))
    for settings in (protocol(), protocol(attacks=[{"kind": "set-level", "steps": 1}])):
        metrics = Retrieval(model, same, settings).metrics("val", curve=False)
        recalls = {name: value for name, value in metrics.items() if "success" not in name}
        assert set(recalls.values()) == {1.0}, "nothing can be confused"
    three = ImageTextSet(data.images[:3], data.labels[:3], ("a dog", "a dog", "a cat"), (("the boot",), (), ()))
    texts = Retrieval(model, three, protocol()).gallery
    assert texts.captions == ("a dog", "the boot", "a dog", "a cat")
    assert texts.right(torch.arange(3)).int().tolist() == [[1, 1, 1, 0], [1, 0, 1, 0], [0, 0, 0, 1]]
    assert texts.own(torch.arange(3)).int().tolist() == [[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    changed = texts.changed(model, ["a boot", "the boot", "a cat", "a cat"])
    assert torch.equal(changed.right(torch.arange(3)), texts.right(torch.arange(3))), "attacked words move no answer"


def test_what_retrieval_does_not_know_is_refused(tiny, data) -> None:
    model = load_model(tiny("clip"))
    with pytest.raises(ConfigError, match=r"protocol\.rerank: needs images, and a model with a matching head"):
        Retrieval(model, data, protocol(rerank=2))
    unknown = protocol(attacks=[{"kind": "apgd-t"}, aimed("sga", "local-dir:/absent")])
    with pytest.raises(ConfigError) as caught:
        Retrieval(model, data, unknown)
    assert caught.value.problems == [
        "protocol.attacks: 'apgd-t-100' attacks a classifier; retrieval is attacked by 'pgd', 'apgd', 'apgd-ce', "
        "'square', 'set-level', 'co-attack', 'sga', with loss 'cross_entropy' or 'margin' where there is a choice",
        "protocol.attacks.words: folder '/absent' does not exist",
    ]
    with pytest.raises(ConfigError, match="'pgd-10 dlr' attacks a classifier"):
        Retrieval(model, data, protocol(attacks=[{"loss": "dlr"}]))


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
