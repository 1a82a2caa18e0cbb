from __future__ import annotations

import gzip
import hashlib
import io
import json
import struct
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers import PreTrainedTokenizerFast

from advlora.config import DataConfig
from advlora.data import load_manifest, load_split
from advlora.models import Preprocessing
from scripts.embedded import archive, captions, pack, pack_emoji, pretrain, sources, splits

pytestmark = pytest.mark.unit


def write_idx(path: Path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes(), compresslevel=1))


@pytest.fixture
def pictures() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (12, 28, 28, 1), dtype=np.uint8)
    return np.repeat(grey, 3, axis=-1), np.arange(12) % 10


@pytest.fixture(scope="module")
def fashion_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As large as the original, but blank but for each image's position in its first four pixels."""
    folder = tmp_path_factory.mktemp("fashion")
    for split, count in (("train", 60_000), ("t10k", 10_000)):
        images = np.zeros((count, 28, 28), np.uint8)
        images.reshape(count, -1)[:, :4] = np.arange(count, dtype="<u4").view(np.uint8).reshape(count, 4)
        write_idx(folder / f"{split}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{split}-labels-idx1-ubyte.gz", (np.arange(count) % 10).astype(np.uint8))
    return folder


def positions(images: np.ndarray) -> set[int]:
    return set(np.ascontiguousarray(images[:, 0, :4, 0]).view("<u4")[:, 0].tolist())


def test_splits_of_one_file_never_overlap_and_use_it_up() -> None:
    ranges = [set(range(60_000)[part]) for part in (splits.TRAIN, splits.PRETRAINING, splits.VAL)]
    assert sum(map(len, ranges)) == len(set.union(*ranges)) == 60_000


def test_shipped_manifest_has_the_sizes_of_the_splits() -> None:
    manifest = load_manifest(DataConfig())
    wanted = {"train": splits.TRAIN, "val": splits.VAL, "test": splits.TEST}
    assert {name: split.samples for name, split in manifest.splits.items()} == {
        name: part.stop - part.start for name, part in wanted.items()
    }
    assert tuple(manifest.templates) == captions.TEMPLATES["fashion"]
    assert tuple(manifest.classes) == sources.FASHION_CLASSES


def test_pretraining_reads_no_image_that_is_shipped(fashion_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = sources.Domain("emoji", np.zeros((1, 28, 28, 3), np.uint8), ["cat"])
    monkeypatch.setattr(sources, "emoji", lambda downloads: other)
    monkeypatch.setattr(sources, "shapes", lambda downloads: other)
    seen = positions(pretrain.load_domains(Path(), fashion_folder)[0].images)
    everything = sources.fashion("train", fashion_folder)[0]
    assert len(seen) == 48_000
    assert not seen & (positions(everything[splits.TRAIN]) | positions(everything[splits.VAL]))


def test_every_template_has_exactly_one_place_for_the_concept() -> None:
    for template in (template for templates in captions.TEMPLATES.values() for template in templates):
        assert template.format("\0").count("\0") == 1, template
        assert template.count("{") == 1, template


def test_every_domain_has_templates_and_a_share_of_the_batches() -> None:
    assert set(captions.TEMPLATES) == set(pretrain.DOMAIN_SHARE)
    assert sum(pretrain.DOMAIN_SHARE.values()) == pytest.approx(1)


def test_tokenizer_ends_every_caption_with_its_highest_id(tmp_path: Path) -> None:
    captions.train_tokenizer({"shapes": ["red circle", "blue triangle"]}, tmp_path)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    ids = tokenizer(["a red circle", "a drawing of a blue triangle"])["input_ids"]
    for row in ids:
        assert row.index(max(row)) == len(row) - 1
        assert row[-1] == len(tokenizer) - 1
        assert tokenizer.unk_token_id not in row


def test_tokenizer_does_not_depend_on_the_order_of_the_images(tmp_path: Path) -> None:
    for name, concepts in (("a", ["cat", "dog", "cat"]), ("b", ["dog", "cat", "dog"])):
        captions.train_tokenizer({"emoji": concepts}, tmp_path / name)
    assert (tmp_path / "a/tokenizer.json").read_bytes() == (tmp_path / "b/tokenizer.json").read_bytes()


def test_shards_have_the_same_bytes_in_every_run(pictures: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        digest = archive.write_shard(tmp_path / name / "x.tar.gz", pack.members(*pictures, np.arange(12), 0))
        assert digest == hashlib.sha256((tmp_path / name / "x.tar.gz").read_bytes()).hexdigest()
    assert (tmp_path / "first/x.tar.gz").read_bytes() == (tmp_path / "second/x.tar.gz").read_bytes()


def test_shards_hold_no_time_and_no_owner(pictures: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    archive.write_shard(tmp_path / "x.tar.gz", pack.members(*pictures, np.arange(12), 0))
    assert (tmp_path / "x.tar.gz").read_bytes()[4:8] == bytes(4)
    with tarfile.open(tmp_path / "x.tar.gz") as shard:
        assert {(member.mtime, member.uid, member.uname) for member in shard} == {(0, 0, "")}


def test_members_number_on_from_the_first_and_cycle_the_templates(pictures: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = pictures
    files = dict(pack.members(images, labels, np.arange(12), 5_003))
    assert list(files)[:3] == ["005003.cls", "005003.png", "005003.txt"]
    assert files["005003.txt"] == b"a t-shirt on a black background"
    assert (np.asarray(Image.open(io.BytesIO(files["005003.png"]))) == images[0, ..., 0]).all()


def test_main_packs_what_the_loader_reads(
    fashion_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TRAIN", "VAL", "TEST"):
        monkeypatch.setattr(splits, name, slice(40, 60))
    monkeypatch.setattr(archive, "SHARD_SIZE", 12)
    monkeypatch.setattr(sys, "argv", ["pack", "--out", str(tmp_path), "--fashion", str(fashion_folder)])
    pack.main()
    config = DataConfig(name=str(tmp_path))
    loaded = load_split(config, "train", Preprocessing(28))
    found = loaded.images.permute(0, 2, 3, 1).numpy()
    assert positions(found) == set(range(40, 60))
    assert loaded.labels.tolist() == [
        place % 10 for place in np.ascontiguousarray(found[:, 0, :4, 0]).view("<u4")[:, 0]
    ]
    assert [shard.samples for shard in load_manifest(config).splits["train"].shards] == [12, 8]


def npm_package(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as package:
        for name, content in files.items():
            header = tarfile.TarInfo(f"package/{name}")
            header.size = len(content)
            package.addfile(header, io.BytesIO(content))


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    """Forty emoji as two vendors draw them, each in a colour of its own, in packages of npm's layout."""
    folder = tmp_path / "downloads"
    folder.mkdir()
    names = [
        {"unified": f"{1000 + n}-FE0F", "name": f"THING {n}", "short_name": f"thing_{n % 2 or n}"} for n in range(40)
    ]
    drawn = [archive.png(np.full((64, 64, 3), 5 * n, np.uint8)) for n in range(40)]
    google = {f"img/google/64/{1000 + n}-fe0f.png": image for n, image in enumerate(drawn)}
    fluent = {f"assets/{1000 + n}.webp": image for n, image in enumerate(drawn)}
    npm_package(folder / "emoji-datasource-google-16.0.0.tgz", {"emoji.json": json.dumps(names).encode(), **google})
    npm_package(folder / "lobehub-fluent-emoji-3d-1.1.0.tgz", {**fluent, "assets/unnamed.webp": drawn[0]})
    npm_package(folder / "emoji-datasource-twitter-16.0.0.tgz", {f"img/twitter/64/{1000}.png": drawn[0]})
    return folder


def test_pretraining_reads_no_drawing_that_retrieval_is_tested_on(downloads: Path) -> None:
    everything = list(sources.drawings(downloads, sources.EMOJI_PACKAGES))
    held_out = [drawing for drawing in everything if drawing.held_out]
    assert 0 < len(held_out) < 40
    assert {drawing.vendor for drawing in held_out} == {"fluent"}
    assert len(sources.emoji(downloads).images) == 40 + 40 + 1 - len(held_out)
    assert {pack_emoji.split_of(drawing) for drawing in held_out} == {"val", "test"}
    assert {pack_emoji.split_of(drawing) for drawing in everything if not drawing.held_out} == {"train"}


def test_a_drawing_has_its_name_in_every_wording_and_a_shortcut_that_differs(downloads: Path) -> None:
    first, second, *_ = sources.drawings(downloads, ["google"])
    assert pack_emoji.captions(first) == [t.format("thing 0") for t in captions.TEMPLATES["emoji"]]
    assert pack_emoji.captions(second)[-1] == "a small icon showing thing 1"
    third = sources.Drawing("google", "1", "face with open mouth", "oh", first.image)
    assert pack_emoji.captions(third)[-1] == "oh"


def test_packed_emoji_are_what_the_loader_reads(
    downloads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["pack_emoji", "--downloads", str(downloads), "--out", str(tmp_path / "out")])
    pack_emoji.main()
    config = DataConfig(name=str(tmp_path / "out"))
    manifest = load_manifest(config)
    assert manifest.task == "retrieval"
    assert sum(split.samples for split in manifest.splits.values()) == 80
    loaded = load_split(config, "test", Preprocessing(28))
    for image, own in zip(loaded.images, loaded.references, strict=True):
        number = int(own[0].removeprefix("thing "))
        assert image.unique().tolist() == [5 * number]
        assert "an emoji of thing " + str(number) in own


def test_the_shipped_emoji_have_several_captions_and_hundreds_of_distinct_ones() -> None:
    config = DataConfig(name="emoji")
    test, val = load_split(config, "test", Preprocessing(28)), load_split(config, "val", Preprocessing(28))
    assert (len(val), len(test)) == (116, 251)
    assert all(len(set(own)) in (4, 5) for own in test.references)
    assert len({caption for own in test.references for caption in own}) == 1_111
    assert not {image.numpy().tobytes() for image in val.images} & {image.numpy().tobytes() for image in test.images}


def test_missing_fashion_files_are_named_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"no Fashion-MNIST in .*dataset-fashion-mnist.*--fashion"):
        sources.fashion("train", tmp_path)


def test_a_missing_package_client_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="emoji@1 is fetched with no-such-client"):
        sources._fetch(["no-such-client", "pack", "emoji@1"], tmp_path)


def test_fetch_runs_in_the_folder_and_reports_failure(tmp_path: Path) -> None:
    sources._fetch([sys.executable, "-c", "open('got', 'w')"], tmp_path / "new")
    assert (tmp_path / "new/got").exists()
    with pytest.raises(subprocess.CalledProcessError):
        sources._fetch([sys.executable, "-c", "raise SystemExit(1)"], tmp_path)


def test_shape_concepts_come_from_the_questions_that_give_both_away() -> None:
    questions = [
        ("what color is the shape?", "red", 0),
        ("what shape is this?", "circle", 0),
        ("is there a circle?", "yes", 0),
        ("what shape is this?", "triangle", 1),
    ]
    assert sources._shape_concepts(questions) == {0: "red circle"}


def test_thumbnail_draws_transparent_pixels_white() -> None:
    clear = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    assert (sources._thumbnail(clear) == 255).all()
    assert sources._thumbnail(clear).shape == (28, 28, 3)


def test_vendors_code_points_agree_without_the_variation_selector() -> None:
    assert sources._plain("2764-FE0F") == sources._plain("2764") == "2764"
