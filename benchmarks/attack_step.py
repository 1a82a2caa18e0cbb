"""What an attack step costs on an adapted model: forward pass and gradient with respect to the images.

Relative to the pretrained model, interleaved in one run: through the adapter as it is trained (`beside`), and with
the model frozen and its adapter merged (`frozen`), as training attacks and evaluations run. Then a whole training step
of AdvLoRA (PGD-3, merging included) relative to one of full fine-tuning on the same batch. Weights are random but for
the embedded model; seconds are of the processor, or of the clock on a GPU.

Usage:
    python -m benchmarks.attack_step --rounds 5
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import open_clip
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from advlora.adapters import AdaptedModel, adapt
from advlora.attacks.gradient import input_gradient, pgd
from advlora.attacks.threat import Threat
from advlora.config import ModelConfig, TrialConfig, parse
from advlora.models import VisionLanguageModel, load_model
from advlora.models.attention import split_attention
from advlora.models.open_clip import OpenClipModel

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
GAUSSIAN = {"init": "gaussian", "alignment": {"enabled": False}, "adaptive": {"enabled": False}}
ADAPTERS: dict[str, dict[str, Any]] = {
    "LoRA": {"kind": "lora", **GAUSSIAN},
    "DoRA": {"kind": "dora"},
    "AdaLoRA": {"kind": "adalora"},
    "AdvLoRA": {"kind": "lora"},
    "full": {"kind": "full"},
}
THREAT, STEPS = Threat("linf", 4 / 255), 3
EMBEDDED, LARGE = "embedded model", "ViT-B-32 widths, 2 blocks"


@dataclass(frozen=True)
class Ratios:
    """Seconds of every round, relative to those of the same round of the reference."""

    values: list[float]

    def __str__(self) -> str:
        return f"{statistics.median(self.values):5.2f} ({min(self.values):.2f}-{max(self.values):.2f})"


def embedded() -> VisionLanguageModel:
    """Returns the shipped model."""
    return load_model(ModelConfig())


def large() -> VisionLanguageModel:
    """Returns a ViT-B-32 of random weights and two blocks, whose text tower is not used."""
    vision = {"image_size": 224, "layers": 2, "width": 768, "patch_size": 32}
    text = {"context_length": 8, "vocab_size": 64, "width": 64, "heads": 1, "layers": 1}
    pixels = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    config = {"embed_dim": 512, "vision_cfg": vision, "text_cfg": text}
    clip = open_clip.CLIP(**config)  # type: ignore[arg-type]  # open_clip takes dictionaries too
    model = OpenClipModel(clip, None, {"model_cfg": config, "preprocess_cfg": pixels})
    split_attention(model.vision)
    return model.requires_grad_(False).eval()


def seconds(work: Callable[[], object]) -> float:
    """Returns how long work takes: of the processor, or of the clock where a GPU does it."""
    clock = time.perf_counter if DEVICE.type == "cuda" else time.process_time
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    begin = clock()
    work()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return clock() - begin


def interleaved(works: dict[str, Callable[[], object]], reference: str, rounds: int, repeats: int) -> dict[str, Ratios]:
    """Times each work in turn, round by round, and divides by the reference of the round."""
    for work in works.values():
        work()
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        taken = {name: sum(seconds(work) for _ in range(repeats)) for name, work in works.items()}
        for name, value in taken.items():
            found[name].append(value / taken[reference])
    return {name: Ratios(values) for name, values in found.items()}


def kept(model: VisionLanguageModel, images: Tensor) -> float:
    """Returns the megabytes that the graph of an attack step keeps, without parameters."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    sizes: dict[int, int] = {}
    alive: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            sizes[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)  # so that no address is given out twice
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        model.encode_images(images.clone().requires_grad_())
    return sum(sizes.values()) / 1e6


def per_sample(model: VisionLanguageModel) -> Callable[[Tensor], Tensor]:
    """Returns a loss of images `(B, 3, H, W)`, `(B,)`."""
    return lambda images: model.encode_images(images).square().sum(1)


def training_step(adapted: AdaptedModel, images: Tensor, *, frozen: bool) -> Callable[[], object]:
    """Returns a step of adversarial training: merge if the attack is to run `frozen`, PGD-3, update."""
    optimiser = torch.optim.AdamW(adapted.parameters(), lr=1e-6)
    loss = per_sample(adapted.model)

    def step() -> None:
        with adapted.frozen() if frozen else nullcontext():
            attacked = pgd(loss, images, torch.zeros_like(images), THREAT, STEPS, THREAT.epsilon / STEPS)
        optimiser.zero_grad()
        objective, penalty = loss(attacked).mean(), adapted.penalty()
        (objective if penalty is None else objective + penalty).backward()  # type: ignore[no-untyped-call]  # torch
        optimiser.step()

    return step


def compare(title: str, make: Callable[[], VisionLanguageModel], batch: int, repeats: int, rounds: int) -> None:
    """Prints the table of one model."""
    base = make().to(DEVICE)
    size = base.image_size
    images = torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    beside, inside = ({name: trained(base, values) for name, values in ADAPTERS.items()} for _ in range(2))
    with ExitStack() as stack:
        for each in inside.values():
            stack.enter_context(each.frozen())
        models = {"base": base}
        models |= {f"{name} beside": each.model for name, each in beside.items()}
        models |= {f"{name} frozen": each.model for name, each in inside.items()}
        steps = {name: partial(input_gradient, per_sample(model), images) for name, model in models.items()}
        attack = interleaved(steps, "base", rounds, repeats)
        memory = {name: kept(model, images) for name, model in models.items()}
    print(f"{title}, batch {batch}, {rounds} rounds on {DEVICE.type}: median (smallest-largest)")
    print(f"{'attack step':<12} {'/ base, beside':<18} {'/ base, frozen':<18} {'MB beside':>10} {'MB frozen':>10}")
    print(f"{'base':<12} {' 1.00':<18} {' 1.00':<18} {memory['base']:10.1f} {memory['base']:10.1f}")
    for name in ADAPTERS:
        before, now = f"{name} beside", f"{name} frozen"
        sizes = f"{memory[before]:10.1f} {memory[now]:10.1f}"
        print(f"{name:<12} {attack[before]!s:<18} {attack[now]!s:<18} {sizes}")
    for state in (False, True):
        updates = {name: training_step(beside[name], images, frozen=state) for name in ("AdvLoRA", "full")}
        whole = interleaved(updates, "full", rounds, 1)["AdvLoRA"]
        print(f"training step, AdvLoRA / full, {'frozen' if state else 'beside'}: {whole}")


def trained(base: VisionLanguageModel, values: dict[str, Any]) -> AdaptedModel:
    """Returns an adapted copy that was moved from its start."""
    adapted = adapt(copy.deepcopy(base), parse(TrialConfig, {"adapter": values}).adapter, 0)
    adapted.model.to(DEVICE).eval()
    with torch.no_grad():
        for parameter in adapted.parameters():
            parameter += 0.01 * torch.randn_like(parameter)
    return adapted


def main() -> None:
    """Measures both models and prints a table for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    for title, make, batch, repeats in ((EMBEDDED, embedded, 64, 2), (LARGE, large, 8, 1)):
        compare(title, make, batch, repeats, arguments.rounds)


if __name__ == "__main__":
    main()
