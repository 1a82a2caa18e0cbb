"""What a trial costs: seconds, forward equivalents of the vision tower, peak memory.

F is one forward pass of the vision tower for one image. A gradient with respect to the input costs another F, one
with respect to all weights another F, one with respect to low-rank factors next to nothing. A training step with K
attack gradients thus costs (2K + 3) F in full fine-tuning and (2K + 2) F with LoRA; a linear probe needs (2K + 1) F,
for its backward pass ends at the last layer.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil

import psutil
import torch

from advlora.attacks import expanded, gradient_steps
from advlora.config import CAPTION_KINDS, JOINT_KINDS, EvaluationAttackConfig, EvaluationProtocol, TrialConfig

MEGABYTE = 2**20


def step_forwards(config: TrialConfig) -> int:
    """Returns the cost of one training step per image, in F."""
    update = config.adapter.step_forwards
    if not config.adapter.trains:
        return 0
    return 2 * gradient_steps(config.attack) + update + _beside(config, update)


def _beside(config: TrialConfig, update: int) -> int:
    """Returns the cost of a loss's passes beside the attacked images, in F.

    TRADES passes the clean images without and with gradient, PMG-AFT with gradient and the attacked ones through the
    teacher; matching looks for hard negatives; CleanCLIP passes views with gradient. Text towers are not counted: F is
    a pass of the vision tower.
    """
    passes = {"trades": 1 + update, "pmg_aft": 1 + update, "cleanclip": update}
    return passes.get(config.loss.kind, int(config.loss.matches))


def training_forwards(config: TrialConfig, images: int) -> float:
    """Returns the cost of a whole training on `images` images per epoch, in F.

    Includes the one pass over the clean images that FARE and PAR need.
    """
    if not config.adapter.trains:
        return 0.0
    return float(images * (step_forwards(config) * config.optimiser.epochs + once_forwards(config)))


def once_forwards(config: TrialConfig) -> int:
    """Returns the cost per image before the first step, in F."""
    return int(config.loss.kind in ("fare", "par") and config.adapter.trains)


def evaluation_forwards(
    protocol: EvaluationProtocol, split: str, epochs: int | None = None, classes: int = 10
) -> float:
    """Returns at most how much the evaluation of one trial on a split costs, in F; broken images end early.

    Args:
        protocol: The evaluation.
        split: `val` or `test`.
        epochs: Of the training; counts the evaluations during training too. None for the final one only.
        classes: Of the data set; targeted attacks aim at no more than there are.
    """
    samples = {"val": protocol.samples.val, "test": protocol.samples.test}[split]
    attacks = sum(attack_forwards(attack, classes) for attack in expanded(protocol.attacks))
    during = 0 if epochs is None or protocol.interval == 0 else ceil(epochs / protocol.interval) - 1
    return float(samples * ((1 + attacks) * (during + 1) + attacks * len(protocol.curve)))


def attack_forwards(attack: EvaluationAttackConfig, classes: int) -> int:
    """Returns the cost per image of an attack that breaks nothing, in F."""
    if attack.kind == "noise":
        return attack.restarts
    if attack.kind in CAPTION_KINDS:
        views, beside = 1 + len(attack.scales or ()), 2 if attack.kind in JOINT_KINDS else 1
        return attack.restarts * (2 * views * attack.steps + beside)
    step = {"fab": 2 + classes, "fab-t": 3, "square": 1}.get(attack.kind, 2)
    last = 0 if attack.kind.startswith("fab") else 1
    ranking = int(attack.targets > 0)
    runs = attack.restarts * (min(attack.targets, classes - 1) if attack.targets else 1)
    return ranking + runs * (step * attack.steps + last)


class Meter:
    """Adds up what training costs; evaluation does not run on it.

    Attributes:
        seconds: Wall-clock time.
        forwards: In F, over all processes.
        peak: Largest memory in MB: allocated on the GPU, or resident on the CPU; of this process.
    """

    def __init__(self, device: torch.device, state: dict[str, float] | None = None) -> None:
        """Starts at zero, or where `state` left off."""
        state = state or {}
        self.device = device
        self.seconds, self.forwards = state.get("seconds", 0.0), state.get("forwards", 0.0)
        self.peak = state.get("peak", 0.0)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Measures time and memory of a block."""
        _forget_peak(self.device)
        begin = time.perf_counter()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.seconds += time.perf_counter() - begin
        self.peak = max(self.peak, _peak_memory(self.device))

    def state(self) -> dict[str, float]:
        """Returns what another meter can go on from."""
        return {"seconds": self.seconds, "forwards": self.forwards, "peak": self.peak}

    def metrics(self) -> dict[str, float]:
        """Returns the costs under their metric names."""
        return {
            "cost/seconds": self.seconds,
            "cost/forward_equivalents": self.forwards,
            "cost/peak_memory_mb": self.peak,
        }


def _forget_peak(device: torch.device) -> None:
    """Restarts the peak: a process that runs many trials must not report the largest of all."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        with open("/proc/self/clear_refs", "w") as control:
            control.write("5")
    except OSError:
        pass  # not Linux, or not permitted: the peak is then that of the process


def _peak_memory(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / MEGABYTE
    try:
        with open("/proc/self/status") as status:
            fields = dict(line.split(":", 1) for line in status)
        return int(fields["VmHWM"].split()[0]) / 1024
    except (OSError, KeyError):
        return float(psutil.Process().memory_info().rss) / MEGABYTE
