"""MSR-VTT (Xu et al. 2016): videos, one JSON file of captions, and the lists of the 1k-A split (Yu et al. 2018)."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from advlora.data.files import read_json, read_text
from advlora.data.records import Entry, Listing, several
from advlora.data.video import SUFFIXES
from advlora.errors import DataError

DESCRIPTIONS = ("MSRVTT_data.json", "train_val_videodatainfo.json")
TRAIN_LIST, TEST_LIST = "MSRVTT_train.9k.csv", "MSRVTT_JSFUSION_test.csv"
ROOTS = ("frames", "videos/all", "videos", "TrainValVideo", "")
SPLIT_NAMES = {"train": "train", "validate": "val", "test": "test"}


def msrvtt(folder: Path) -> Listing:
    """Lists a folder with `MSRVTT_data.json`, and videos or folders of extracted frames named by their ids.

    Where there are lists of the 1k-A split, they decide what is training and what is test (one caption per video);
    a training video that is also in `val` or `test` is left out.

    Raises:
        DataError: If there is no description, or it is not readable.
    """
    content = _content(folder)
    captions: dict[str, list[str]] = {}
    problems = []
    try:
        for sentence in content["sentences"]:
            captions.setdefault(sentence["video_id"], []).append(sentence["caption"].strip())
        splits = {video["video_id"]: SPLIT_NAMES[video["split"]] for video in content["videos"]}
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"the description in '{folder}' has an entry that lacks {error}") from error
    members = {name: [video for video, split in splits.items() if split == name] for name in ("train", "val", "test")}
    tested = _listed(folder / TEST_LIST)
    if tested:
        members["test"] = list(tested)
        captions |= {video: [caption] for video, caption in tested.items() if caption}
    members["train"] = list(_listed(folder / TRAIN_LIST)) or members["train"]
    held_out = {*members["val"], *members["test"]}
    members["train"] = [video for video in members["train"] if video not in held_out]
    silent = [video for videos in members.values() for video in videos if not captions.get(video)]
    problems += several([f"video '{video}' has no caption" for video in silent])
    records = {
        name: tuple(Entry(_file(folder, video), tuple(captions[video])) for video in videos if captions.get(video))
        for name, videos in members.items()
    }
    empty = [f"split '{name}' of '{folder}' holds no video" for name, found in records.items() if not found]
    return Listing("msrvtt", records, video=True, problems=(*problems, *empty))


def _content(folder: Path) -> dict[str, Any]:
    file = next((folder / name for name in DESCRIPTIONS if (folder / name).is_file()), None)
    if file is None:
        raise DataError(f"folder '{folder}' holds no {DESCRIPTIONS[0]}, which layout 'msrvtt' needs")
    content = read_json(file)
    if not isinstance(content, dict) or not {"videos", "sentences"} <= content.keys():
        raise DataError(f"{file} holds no lists 'videos' and 'sentences'")
    return content


def _listed(file: Path) -> dict[str, str]:
    """Returns video -> caption (empty where the list has none) of a list; nothing if there is no such list."""
    if not file.is_file():
        return {}
    rows = list(csv.DictReader(io.StringIO(read_text(file), newline="")))
    if rows and "video_id" not in rows[0]:
        raise DataError(f"{file} has no column 'video_id'")
    return {row["video_id"]: (row.get("sentence") or "").strip() for row in rows}


def _file(folder: Path, video: str) -> Path:
    for root in ROOTS:
        if root == "frames" and (folder / root / video).is_dir():
            return folder / root / video
        for suffix in SUFFIXES:
            candidate = folder / root / f"{video}{suffix}"
            if candidate.is_file():
                return candidate
    return folder / "videos" / f"{video}.mp4"
