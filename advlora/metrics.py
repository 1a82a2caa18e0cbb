"""`Metric`: the one spelling of every number that is measured, such as `val/robust_r1:8_255` or `cost/seconds`.

Robust numbers name their epsilon after a colon, because MLflow refuses `@` in metric names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Direction = Literal["min", "max"]
Unit = Literal["%", "s", "F", "FLOP", "MB", "parameters", ""]

SPLITS = ("val", "test")
DEPTHS = (1, 5, 10)
"""Depths K at which recall is measured."""
ATTACK_SUCCESS = "attack_success_rate"
"""How often a backdoor's trigger turns an image into its target class."""
MEAN_RECALL = "mean_recall"
MEAN_PER_CLASS = "mean_per_class"
"""Of a classifier: the mean over the classes of the accuracy within each, as published for Pets, Flowers, Aircraft
and Caltech-101; `r1` is the mean over the images."""
OWNER = "owner"
"""The image of each caption, among what is kept of single queries."""
TRANSFER = "transfer"
"""Before the name of a number that is measured on a further data set: `test/transfer/cars/clean_r1`; without a set it
is the mean over all of them."""
RERANKED = "itm_"
"""Before the name of a recall after re-ranking by image-text matching."""

_UNITS: dict[tuple[str, str], Unit] = {
    ("cost", "seconds"): "s",
    ("cost", "flops"): "FLOP",
    ("cost", "vision_forwards"): "F",
    ("cost", "peak_memory_mb"): "MB",
    ("params", "trainable"): "parameters",
    ("params", "trainable_fraction"): "%",
}


@dataclass(frozen=True)
class Metric:
    """The name of a number.

    Attributes:
        split: `val` or `test` for what is measured on data; `train`, `cost`, `params` or `guard` for the rest.
        name: Such as `clean_r1`, `robust_itm_tr_r5`, `success_tr_r1`, `attack_success_rate`, `seconds`.
        epsilon: The attack's; None where there is no attack.
    """

    split: str
    name: str
    epsilon: float | None = None

    @classmethod
    def clean(cls, split: str, recall: str = "r1") -> Metric:
        """Accuracy on clean images: recall at 1 against the class texts, or of an image's captions."""
        return cls(split, f"clean_{recall}")

    @classmethod
    def robust(cls, split: str, epsilon: float, recall: str = "r1") -> Metric:
        """Accuracy under every attack of a protocol at `epsilon`."""
        return cls(split, f"robust_{recall}", epsilon)

    @classmethod
    def success(cls, split: str, epsilon: float, recall: str) -> Metric:
        """Share of the queries found on clean images that the attacks at `epsilon` make wrong."""
        return cls(split, f"success_{recall}", epsilon)

    @classmethod
    def parse(cls, text: str) -> Metric:
        """Reads what `str` wrote.

        Raises:
            ValueError: If the text is not a metric's name.
        """
        split, slash, rest = text.partition("/")
        name, colon, label = rest.partition(":")
        if not (split and slash and name) or (colon and not label):
            raise ValueError(f"'{text}' is not the name of a metric, such as val/clean_r1 or val/robust_r1:8_255")
        return cls(split, name, _epsilon(label) if colon else None)

    def __str__(self) -> str:
        return f"{self.split}/{self.name}" + ("" if self.epsilon is None else f":{epsilon_label(self.epsilon)}")

    @property
    def direction(self) -> Direction:
        """Whether less or more is better: less for costs, sizes, losses, and the success of attacks and backdoors."""
        less = self.split in ("cost", "params", "train", "guard")
        return "min" if less or self.name == ATTACK_SUCCESS or self.name.startswith("success_") else "max"

    @property
    def on_data(self) -> bool:
        """Whether it is a share of examples of a split, in [0, 1]."""
        return self.split in SPLITS

    @property
    def unit(self) -> Unit:
        """What a person reads behind the number; shares are shown in percent."""
        return "%" if self.on_data else _UNITS.get((self.split, self.name), "")

    def on(self, split: str) -> Metric:
        """Returns the same number on another split."""
        return Metric(split, self.name, self.epsilon)

    def transferred(self, data: str | None = None) -> Metric:
        """Returns the same number on a further data set; its mean over all of them for None."""
        place = TRANSFER if data is None else f"{TRANSFER}/{data}"
        return Metric("test", f"{place}/{self.name}", self.epsilon)


SECONDS, FLOPS = Metric("cost", "seconds"), Metric("cost", "flops")
VISION_FORWARDS, PEAK_MEMORY = Metric("cost", "vision_forwards"), Metric("cost", "peak_memory_mb")
COSTS = (SECONDS, FLOPS, VISION_FORWARDS, PEAK_MEMORY)
TRAINABLE, TRAINABLE_FRACTION = Metric("params", "trainable"), Metric("params", "trainable_fraction")
SIZES = (TRAINABLE, TRAINABLE_FRACTION)
TRAINING_LOSS, MISFIT = Metric("train", "loss"), Metric("train", "misfit")
ADAPTIVE_MEAN, ADAPTIVE_MIN, ADAPTIVE_MAX = (Metric("train", f"adaptive_{name}") for name in ("mean", "min", "max"))
ADAPTED = (MISFIT, ADAPTIVE_MEAN, ADAPTIVE_MIN, ADAPTIVE_MAX)
"""What has become of an adapter: the mean distance of its products from their alignment targets, and its scales."""
OVERFITTING, OVERFITTING_GAP = Metric("guard", "overfitting"), Metric("guard", "overfitting_gap")
"""Whether one-step training has overfitted to its attack, and by how much the attack overstates its accuracy."""


def recall_name(side: Literal["tr", "ir"], depth: int) -> str:
    """Names the recall of texts by images (`tr_r1`) or of images by texts (`ir_r1`)."""
    return f"{side}_r{depth}"


def recall_names(*, reranked: bool = False) -> tuple[str, ...]:
    """Returns `tr_r1` ... `ir_r10` of retrieval (texts, then images); those after re-ranking with `itm_` in front."""
    names = (*(recall_name("tr", depth) for depth in DEPTHS), *(recall_name("ir", depth) for depth in DEPTHS))
    return tuple(f"{RERANKED}{name}" for name in names) if reranked else names


def rank_name(side: str) -> str:
    """Names the ranks of all queries of a direction, from which its recalls follow: `tr_rank` or `ir_rank`."""
    return f"{side}_rank"


def epsilon_label(epsilon: float) -> str:
    """Writes an epsilon as a part of a name: `8_255` for 8/255 (in halves up to 64/255), else the decimal number."""
    steps = round(epsilon * 255 * 2) / 2
    if 0 < steps <= 64 and abs(steps - epsilon * 255) < 1e-6:
        return f"{steps:g}_255"
    return f"{epsilon:g}"


def readable_epsilon(epsilon: float) -> str:
    """Writes an epsilon for people: `8/255`, or the decimal number."""
    return epsilon_label(epsilon).replace("_", "/")


def _epsilon(label: str) -> float:
    steps, over, pixels = label.partition("_")
    return float(steps) / float(pixels) if over else float(steps)
