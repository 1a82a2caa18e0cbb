"""What a trial costs: seconds, floating-point operations, passes of the vision tower, peak memory.

Operations are measured (`flops`) and hold everything; passes follow from the formulas below, which are there to plan
with, and leave texts out. F is one forward pass of the vision tower for one image. A gradient with respect to the input
costs another F, one with respect to all weights another F, one with respect to low-rank factors next to nothing. A
training step with K attack gradients thus costs (2K + 3) F in full fine-tuning and (2K + 2) F with LoRA; a linear probe
needs (2K + 1) F, for its backward pass ends at the last layer.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil

import psutil
import torch

from advlora.config import EvaluationProtocol, TrainingAttackConfig, TrialConfig
from advlora.metrics import FLOPS, PEAK_MEMORY, SECONDS, VISION_FORWARDS

MEGABYTE = 2**20


def step_forwards(config: TrialConfig, attack: TrainingAttackConfig | None = None) -> int:
    """Returns the cost of one training step per image, in F.

    Args:
        config: The trial.
        attack: The attack of the step; None for the trial's own.
    """
    update = config.adapter.step_forwards
    if not config.adapter.trains:
        return 0
    return 2 * (attack or config.attack).gradient_steps + update + config.loss.extra_forwards(update)


def training_forwards(config: TrialConfig, images: int) -> float:
    """Returns the cost of a whole training on `images` images per epoch, in F, with what precedes the first step."""
    if not config.adapter.trains:
        return 0.0
    return float(images * (step_forwards(config) * config.optimiser.epochs + config.loss.once_forwards))


def evaluation_forwards(
    protocol: EvaluationProtocol, split: str, epochs: int | None = None, classes: int = 10
) -> float:
    """Returns at most how much the evaluation of one trial on a split costs, in F; broken images end early.

    Args:
        protocol: The evaluation.
        split: `val` or `test`.
        epochs: Epochs of the training, whose own evaluations are counted too; None for the final one only.
        classes: Number of classes of the data set; targeted attacks aim at no more than there are.
    """
    samples = {"val": protocol.samples.val, "test": protocol.samples.test}[split]
    attacks = sum(attack.forwards(classes) for attack in protocol.attacks)
    during = 0 if epochs is None or protocol.interval == 0 else ceil(epochs / protocol.interval) - 1
    return float(samples * ((1 + attacks) * (during + 1) + attacks * len(protocol.curve)))


class Meter:
    """Adds up what training costs; evaluation does not run on it.

    Attributes:
        seconds: Wall-clock time.
        forwards: In F, over all processes.
        flops: Floating-point operations, over all processes.
        rate: Those of a step with the attack that is in force, per image; 0 before they are known.
        peak: Largest memory in MB: allocated on the GPU, or resident on the CPU; of this process.
    """

    def __init__(self, device: torch.device, state: dict[str, float] | None = None) -> None:
        """Starts at zero, or where `state` left off."""
        state = state or {}
        self.device = device
        self.seconds, self.forwards = state.get("seconds", 0.0), state.get("forwards", 0.0)
        self.flops, self.rate = state.get("flops", 0.0), state.get("rate", 0.0)
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
        return {
            "seconds": self.seconds,
            "forwards": self.forwards,
            "flops": self.flops,
            "rate": self.rate,
            "peak": self.peak,
        }

    def metrics(self) -> dict[str, float]:
        """Returns the costs under their metric names."""
        return {
            str(SECONDS): self.seconds,
            str(FLOPS): self.flops,
            str(VISION_FORWARDS): self.forwards,
            str(PEAK_MEMORY): self.peak,
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
