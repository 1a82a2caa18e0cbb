"""What became of every example of a trial that is reported, kept in its folder beside its state.

The worker writes it before it reports the last epoch, so a trial that the ledger calls done has it. In a compressed
archive of NumPy arrays, each with its checksum, a thousand answers take less than 400 bytes.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile
from zlib import error as DamagedStream

import numpy as np
from torch import Tensor

from advlora.metrics import DEPTHS, MEAN_RECALL, OWNER, RERANKED, TRANSFER, Metric, rank_name
from advlora_platform.study.folder import StudyFolder, write_file

OUTCOMES_FILE = "outcomes.npz"
Rows = dict[str, np.ndarray[Any, Any]]
"""Name -> a value per image, `(N,)`, or per caption, `(T,)`: right or wrong, or a rank; see `advlora.evaluation`."""
Scores = np.ndarray[Any, np.dtype[np.float64]]
_RECALL = re.compile(
    rf"(?P<images>clean|robust)_(?P<order>{RERANKED})?(?:(?P<side>tr|ir)_r(?P<depth>\d+)|(?P<r1>r1)|{MEAN_RECALL})"
)
log = logging.getLogger(__name__)


def save_outcomes(folder: Path, rows: Mapping[str, Tensor]) -> None:
    """Replaces the outcomes of a trial in one step; without rows there is nothing to keep."""
    if rows:
        plain: dict[str, Any] = {name: row.numpy() for name, row in rows.items()}
        write_file(folder / OUTCOMES_FILE, lambda file: np.savez_compressed(file, **plain))


def load_outcomes(folder: Path) -> Rows:
    """Returns the outcomes of a trial; nothing where none were kept, or where they are damaged, which is logged."""
    try:
        with np.load(folder / OUTCOMES_FILE, allow_pickle=False) as archive:
            return dict(archive)
    except FileNotFoundError:
        return {}
    except (BadZipFile, DamagedStream, ValueError, EOFError) as error:
        log.warning("%s is damaged (%s); the trial is reported without it", folder / OUTCOMES_FILE, error)
        return {}


class Shelf:
    """The outcomes of the trials of a study, each read when it is first asked for."""

    def __init__(self, folder: StudyFolder | None = None) -> None:
        """Takes the folder; None for a shelf without any outcomes."""
        self._folder = folder
        self._known: dict[str, Rows] = {}

    def scores(self, trial_id: str, metric: str) -> Scores | None:
        """Returns what each image adds to a metric of a trial, `(N,)`; None where that is not known."""
        if self._folder is None:
            return None
        if trial_id not in self._known:
            self._known[trial_id] = load_outcomes(self._folder.trial(trial_id))
        return scores(self._known[trial_id], metric)


def scores(rows: Rows, metric: str) -> Scores | None:
    """Returns what each image adds to a metric, `(N,)`; their mean is the metric. None where that is not known.

    A caption counts for the image that it belongs to, as the captions of an image are not independent of one another.
    """
    if metric in rows:
        return rows[metric].astype(np.float64)
    asked = Metric.parse(metric)
    if asked.name.startswith(f"{TRANSFER}/"):
        return _over_sets(rows, metric)
    found = _RECALL.fullmatch(asked.name)
    if found is None or str(Metric(asked.split, OWNER)) not in rows:
        return None
    if found["side"]:
        return _hits(rows, asked, found, found["side"], int(found["depth"]))
    if found["r1"]:  # the recall that trials are selected by
        return _hits(rows, asked, found, "tr", 1)
    recalls = [_hits(rows, asked, found, side, depth) for side in ("tr", "ir") for depth in DEPTHS]
    mean: Scores = np.asarray(recalls).mean(0)  # (6, N) -> (N,)
    return mean


def _over_sets(rows: Rows, metric: str) -> Scores | None:
    """Returns what each image of all sets adds to the mean over the sets, `(N_1 + N_2 + ...,)`; None for other numbers.

    The sets are given, and chance is in their images alone: an image counts by how it differs from its own set, as in
    a stratified sample, where the variance of the mean of K sets is the sum of theirs divided by K squared.
    """
    place, _, number = metric.rpartition("/")
    wanted = re.compile(rf"{place}/[^/]+/{re.escape(number)}")
    own = [row.astype(np.float64) for name, row in rows.items() if wanted.fullmatch(name)]
    if not own:
        return None
    total, mean = sum(map(len, own)), np.mean([row.mean() for row in own])
    return np.concatenate([mean + total / len(own) / len(row) * (row - row.mean()) for row in own])


def _hits(rows: Rows, asked: Metric, found: re.Match[str], side: str, depth: int) -> Scores:
    """Returns the right answers within a depth, summed over the queries of an image, in units of the mean, `(N,)`."""
    name = f"{found['images']}_{found['order'] or ''}{rank_name(side)}"
    right = (rows[str(Metric(asked.split, name, asked.epsilon))] < depth).astype(float)  # (N,) or (T,)
    if side == "tr":
        return right
    owner = rows[str(Metric(asked.split, OWNER))]  # (T,)
    images = int(owner.max()) + 1
    return np.bincount(owner, right, images) * images / len(owner)
