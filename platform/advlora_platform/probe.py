"""A short measurement that turns forward passes into seconds on this machine."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from advlora.config import TrialConfig
from advlora.models import VisionLanguageModel
from advlora.training.workbench import Workbench

PROBE_IMAGES = 128
PROBE_SECONDS = 1.5


def seconds_per_forward(config: TrialConfig, slots: int) -> float:
    """Measures an attack's gradient, half of which is F, with as many at once as trials will run on this machine.

    Trials that share a machine slow each other down, above all where two cores are two threads of one.

    Args:
        config: The trial whose model and threads are measured.
        slots: How many trials run at once.
    """
    torch.set_num_threads(config.resources.cpus_per_worker)
    model = Workbench().model(config.model)
    images = torch.rand(PROBE_IMAGES, 3, model.image_size, model.image_size)
    here = min(slots * config.resources.workers, len(os.sched_getaffinity(0)))
    _gradients(model, images, 0.0)
    with ThreadPoolExecutor(here) as pool:
        rounds = sum(pool.map(lambda _: _gradients(model, images, PROBE_SECONDS), range(here)))
    return PROBE_SECONDS * here / (2 * rounds * PROBE_IMAGES)


def _gradients(model: VisionLanguageModel, images: Tensor, seconds: float) -> float:
    """Returns how many input gradients are taken in a time."""
    begin, rounds = time.perf_counter(), 0
    while True:
        points = images.clone().requires_grad_()
        torch.autograd.grad(model.encode_images(points).sum(), points)
        rounds += 1
        elapsed = time.perf_counter() - begin
        if elapsed >= seconds:
            return rounds * seconds / elapsed
