from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from advlora.config import DataConfig
from advlora.data import check_data, load_manifest, load_split
from advlora.data.layouts import forget_listings
from advlora.data.video import frames
from advlora.errors import DataError
from advlora.models import Preprocessing
from tests.advlora.data.shard_files import grey, write_shard

pytestmark = pytest.mark.unit


def picture(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((10, 12, 3), value, np.uint8)).save(path)


def flickr(folder: Path) -> dict:
    """Flickr30k as Karpathy's file and the images' archive lie on disk."""
    entries = []
    for number, split in enumerate(["train", "train", "val", "test"]):
        name = f"{1000 + number}.png"
        picture(folder / "flickr30k-images" / name, 10 * number)
        sentences = [{"raw": f"Caption {i} of {number}.", "tokens": [], "sentid": i} for i in range(5)]
        entries.append({"filename": name, "imgid": number, "split": split, "sentences": sentences, "sentids": []})
    content = {"images": entries, "dataset": "flickr30k"}
    (folder / "dataset_flickr30k.json").write_text(json.dumps(content))
    return content


def karpathy(folder: Path, **values) -> DataConfig:
    return DataConfig(name=str(folder), layout="karpathy", **values)


def rewrite(folder: Path, content: dict) -> DataConfig:
    (folder / "dataset_flickr30k.json").write_text(json.dumps(content))
    forget_listings()
    return karpathy(folder)


def test_flickr30k_is_read_with_all_its_captions(tmp_path: Path) -> None:
    flickr(tmp_path)
    config = karpathy(tmp_path)
    assert check_data(config) == []
    manifest = load_manifest(config)
    assert (manifest.task, manifest.name) == ("retrieval", "flickr30k")
    assert {name: split.samples for name, split in manifest.splits.items()} == {"train": 2, "val": 1, "test": 1}
    data = load_split(config, "train", Preprocessing(8))
    assert sorted(data.images[:, 0, 0, 0].tolist()) == [0, 10]
    for image, captions in zip(data.images, data.references, strict=True):
        assert captions == tuple(f"Caption {i} of {int(image[0, 0, 0]) // 10}." for i in range(5))
    assert data.captions == tuple(captions[0] for captions in data.references)
    assert len(load_split(config, "train", Preprocessing(8), 1)) == 1


def test_mscoco_has_folders_and_a_rest_of_validation(tmp_path: Path) -> None:
    entries = []
    for number, (split, place) in enumerate(
        [("train", "train2014"), ("restval", "val2014"), ("val", "val2014"), ("test", "val2014")]
    ):
        picture(tmp_path / "images" / place / f"{number}.jpg", 10 * number)
        sentences = [{"raw": f"text {number}"}]
        entries.append({"filepath": place, "filename": f"{number}.jpg", "split": split, "sentences": sentences})
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": entries, "dataset": "coco"}))
    config = karpathy(tmp_path)
    assert check_data(config) == []
    assert load_split(config, "train", Preprocessing(8)).captions in (("text 0", "text 1"), ("text 1", "text 0"))


def test_everything_that_is_wrong_with_a_karpathy_folder_is_said(tmp_path: Path) -> None:
    content = flickr(tmp_path)
    (tmp_path / "flickr30k-images" / "1001.png").unlink()
    content["images"][0]["sentences"] = [{"raw": "  "}]
    content["images"][2]["split"] = "vall"
    del content["images"][3]["filename"]
    found = "\n".join(check_data(rewrite(tmp_path, content)))
    assert "image 0 has no caption" in found
    assert "image 2 has split 'vall', known are train, restval, val, test" in found
    assert "image 3 lacks 'filename'" in found
    assert "split 'test' holds no image" in found
    assert "1001.png' is missing" in found
    content["images"][1]["filename"] = "../../secret.png"
    assert "outside the folder" in "\n".join(check_data(rewrite(tmp_path, content)))


def test_a_karpathy_folder_without_its_file(tmp_path: Path) -> None:
    assert "needs exactly one, such as dataset_flickr30k.json" in check_data(karpathy(tmp_path))[0]
    (tmp_path / "dataset_coco.json").write_text("[]")
    assert "holds no list 'images'" in check_data(karpathy(tmp_path))[0]
    assert "does not exist" in check_data(karpathy(tmp_path / "absent"))[0]


def test_the_hash_follows_captions_and_files(tmp_path: Path) -> None:
    content = flickr(tmp_path)
    before = load_manifest(karpathy(tmp_path)).hash
    assert load_manifest(rewrite(tmp_path, content)).hash == before
    content["images"][0]["sentences"][0]["raw"] = "another"
    reworded = load_manifest(rewrite(tmp_path, content)).hash
    picture(tmp_path / "flickr30k-images" / "1000.png", 99)
    Image.fromarray(np.zeros((50, 50, 3), np.uint8)).save(tmp_path / "flickr30k-images" / "1000.png")
    assert len({before, reworded, load_manifest(rewrite(tmp_path, content)).hash}) == 3


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    flickr(tmp_path)
    (tmp_path / "flickr30k-images" / "1000.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"1000\.png' cannot be read"):
        load_split(karpathy(tmp_path), "train", Preprocessing(8))


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    for split in ("train", "val", "test"):
        for value, code in enumerate(["n02", "n01", "tabby_cat"]):
            picture(tmp_path / split / code / "b.jpg", 20 * value)
            picture(tmp_path / split / code / "a.png", 20 * value + 10)
    (tmp_path / "prompts.txt").write_text("a photo of a {}.\n\na sketch of a {}.\n")
    (tmp_path / "classes.json").write_text(json.dumps({"n01": "tench", "n02": "dog", "tabby_cat": "cat"}))
    return tmp_path


def folders(path: Path, **values) -> DataConfig:
    return DataConfig(name=str(path), layout="folders", **values)


def test_image_folders_are_a_zero_shot_set(classes: Path) -> None:
    config = folders(classes)
    assert check_data(config) == []
    manifest = load_manifest(config)
    assert manifest.task == "zero-shot"
    assert manifest.classes == ("tench", "dog", "cat")
    assert manifest.captions(2) == ["a photo of a cat.", "a sketch of a cat."]
    data = load_split(config, "test", Preprocessing(8))
    grey = {0: {20, 30}, 1: {0, 10}, 2: {40, 50}}  # of the classes' images
    for image, label, caption in zip(data.images, data.labels.tolist(), data.captions, strict=True):
        assert int(image[0, 0, 0]) in grey[label]
        assert caption == manifest.captions(label)[0]
    assert sorted(data.labels.tolist()[:3]) == sorted(data.labels.tolist()[3:]) == [0, 1, 2]


def test_class_names_are_those_of_the_folders_without_a_list(classes: Path) -> None:
    (classes / "classes.json").unlink()
    assert load_manifest(folders(classes)).classes == ("n01", "n02", "tabby cat")


def test_a_set_with_a_test_split_only_can_be_read(classes: Path) -> None:
    for split in ("train", "val"):
        (classes / split).rename(classes / f"{split}-elsewhere")
    assert check_data(folders(classes)) == []
    assert len(load_split(folders(classes), "test", Preprocessing(8))) == 6
    with pytest.raises(DataError, match="no samples in split 'train'"):
        load_split(folders(classes), "train", Preprocessing(8))
    assert "more than the 0" in check_data(folders(classes, train_samples=5))[0]


def test_everything_that_is_wrong_with_image_folders_is_said(classes: Path) -> None:
    (classes / "prompts.txt").write_text("a photo\n")
    (classes / "classes.json").write_text(json.dumps({"n01": "tench"}))
    found = "\n".join(check_data(folders(classes)))
    assert "prompts.txt: 'a photo' must hold {} exactly once" in found
    assert "folder 'n02' has no name" in found
    (classes / "prompts.txt").unlink()
    (classes / "classes.json").unlink()
    forget_listings()
    assert "holds no prompts.txt; write one prompt per line" in check_data(folders(classes))[0]
    assert "holds none of train, val, test" in check_data(folders(classes / "test"))[0]


def msrvtt(folder: Path) -> DataConfig:
    videos = [("video0", "train"), ("video1", "train"), ("video2", "validate"), ("video3", "test")]
    sentences = [{"video_id": name, "caption": f"{name} {i}", "sen_id": i} for name, _ in videos for i in range(2)]
    entries = [{"video_id": name, "split": split, "id": i} for i, (name, split) in enumerate(videos)]
    (folder / "MSRVTT_data.json").write_text(json.dumps({"videos": entries, "sentences": sentences}))
    for number, (name, _) in enumerate(videos):
        for frame in range(10):
            picture(folder / "frames" / name / f"{frame:04d}.png", 50 * number + frame)
    return DataConfig(name=str(folder), layout="msrvtt", frames=4)


def test_videos_are_sampled_uniformly(tmp_path: Path) -> None:
    config = msrvtt(tmp_path)
    assert check_data(config) == []
    data = load_split(config, "train", Preprocessing(8))
    assert data.images.shape == (2, 4, 3, 8, 8)
    assert data.images[1, :, 0, 0, 0].tolist() == [51, 53, 56, 58]
    assert data.references[0] == ("video0 0", "video0 1")
    short = load_split(config.model_copy(update={"frames": 20}), "val", Preprocessing(8))
    assert short.images[0, :, 0, 0, 0].tolist() == [100 + frame for frame in range(10) for _ in range(2)]


def test_the_lists_of_the_1k_a_split_are_followed(tmp_path: Path) -> None:
    config = msrvtt(tmp_path)
    for name, rows in {
        "MSRVTT_train.9k.csv": [["video_id"], ["video0"], ["video2"], ["video3"]],
        "MSRVTT_JSFUSION_test.csv": [
            ["key", "vid_key", "video_id", "sentence"],
            ["k", "v", "video1", "the one caption"],
        ],
    }.items():
        with (tmp_path / name).open("w", newline="") as stream:
            csv.writer(stream).writerows(rows)
    assert load_split(config, "test", Preprocessing(8)).references == (("the one caption",),)
    assert {name.split()[0] for name in load_split(config, "train", Preprocessing(8)).captions} == {"video0", "video3"}


def test_animated_images_are_videos_too(tmp_path: Path) -> None:
    config = msrvtt(tmp_path)
    (tmp_path / "frames" / "video2").rename(tmp_path / "elsewhere")
    frames = [Image.fromarray(np.full((8, 8, 3), 60 * i, np.uint8)) for i in range(4)]
    (tmp_path / "videos").mkdir()
    frames[0].save(tmp_path / "videos" / "video2.webp", save_all=True, append_images=frames[1:], lossless=True)
    assert check_data(config) == []
    assert load_split(config, "val", Preprocessing(8)).images[0, :, 0, 0, 0].tolist() == [0, 60, 120, 180]


def test_a_video_file_needs_a_decoder_or_is_decoded(tmp_path: Path) -> None:
    config = msrvtt(tmp_path)
    (tmp_path / "frames" / "video2").rename(tmp_path / "elsewhere")
    (tmp_path / "videos" / "all").mkdir(parents=True)
    file = tmp_path / "videos" / "all" / "video2.mp4"
    try:
        import av
    except ImportError:
        file.write_bytes(b"video")
        with pytest.raises(DataError, match=r"needs PyAV: pip install av, or extract the frames .* frames/video2/"):
            load_split(config, "val", Preprocessing(8))
        return
    with av.open(str(file), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 16
        for value in (0, 80, 160, 240):
            frame = av.VideoFrame.from_ndarray(np.full((16, 16, 3), value, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    found = load_split(config, "val", Preprocessing(16)).images[0, :, 0, 8, 8].float()
    assert (found - torch.tensor([0.0, 80.0, 160.0, 240.0])).abs().max() < 8


class Watched:
    """A container of PyAV that counts the frames it decodes."""

    decoded = 0

    def __init__(self, container) -> None:
        self.container = container

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *error) -> None:
        self.container.close()

    def __getattr__(self, name: str):
        return getattr(self.container, name)

    def decode(self, stream):
        for frame in self.container.decode(stream):
            Watched.decoded += 1
            yield frame


def test_a_video_file_is_decoded_from_the_key_frames_before_its_sampled_frames(tmp_path: Path, monkeypatch) -> None:
    av = pytest.importorskip("av")
    file = tmp_path / "long.mp4"
    with av.open(str(file), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 16
        stream.gop_size = 10
        for place in range(100):
            pixels = np.full((16, 16, 3), 2 * place, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    with av.open(str(file)) as container:
        every = [frame.to_image() for frame in container.decode(video=0)]
    opened = av.open
    monkeypatch.setattr(av, "open", lambda *arguments: Watched(opened(*arguments)))
    for count, most in ((4, 30), (100, 100)):
        Watched.decoded = 0
        found = frames(file, count, np.asarray)
        places = [int((place + 0.5) * 100 / count) for place in range(count)]
        assert all(np.array_equal(one, np.asarray(every[at])) for one, at in zip(found, places, strict=True))
        assert Watched.decoded <= most
    assert len(frames(file, 150, np.asarray)) == 150


def test_everything_that_is_wrong_with_videos_is_said(tmp_path: Path) -> None:
    config = msrvtt(tmp_path)
    content = json.loads((tmp_path / "MSRVTT_data.json").read_text())
    content["sentences"] = [entry for entry in content["sentences"] if entry["video_id"] != "video3"]
    (tmp_path / "MSRVTT_data.json").write_text(json.dumps(content))
    (tmp_path / "frames" / "video0").rename(tmp_path / "elsewhere")
    found = "\n".join(check_data(config))
    assert "video 'video3' has no caption" in found
    assert "split 'test' of" in found
    assert "video0.mp4' is missing" in found
    assert "holds no MSRVTT_data.json" in check_data(config.model_copy(update={"name": str(tmp_path / "frames")}))[0]


def test_retrieval_shards_have_a_caption_per_line(folder) -> None:
    shard = write_shard(folder.path / "val.tar", [{"png": grey(7), "txt": b"one dog\n\n two dogs \n"}])
    splits = {name: {"samples": 1, "shards": [shard]} for name in ("train", "val", "test")}
    folder.manifest = {"name": "captions", "task": "retrieval", "splits": splits}
    folder.save()
    config = DataConfig(name=str(folder.path))
    assert check_data(config) == []
    assert load_split(config, "val", Preprocessing(8)).references == (("one dog", "two dogs"),)
    folder.manifest["classes"] = ["cat", "dog"]
    folder.save()
    assert "leave them out" in check_data(config)[0]
