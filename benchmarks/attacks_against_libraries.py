"""Compares the evaluation's attacks with those of torchattacks and pyautoattack on the same models and images.

Run it where a library can be imported, for example after `pip install --no-deps torchattacks pyautoattack`:

    python -m benchmarks.attacks_against_libraries --samples 500
    python -m benchmarks.attacks_against_libraries --samples 100 --norms l2 --models robust --attacks square-1000

Without `--adapted` a full fine-tuning of two epochs on 2,048 images against PGD-2 at 8/255 (about half a minute) gives
the robust model; the other one is the pretrained embedded model. The libraries draw from torch's global random numbers,
so equal seeds do not give equal points: what is compared is robust accuracy. Seconds are of the processor.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from advlora.attacks import Classifier, withstands
from advlora.config import (
    DataConfig,
    EvaluationAttackConfig,
    EvaluationProtocol,
    ModelConfig,
    TrialConfig,
    parse,
)
from advlora.config.evaluation_attacks import ApgdCe, ApgdT, FabT, Pgd, Square
from advlora.models import Preprocessing, VisionLanguageModel
from advlora.randomness import Streams
from advlora.training.trainer import fine_tune, restore
from advlora.training.workbench import Workbench

ROBUST = {
    "data": {"train_samples": 2048},
    "adapter": {"kind": "full"},
    "attack": {"kind": "pgd", "epsilon": "8/255", "steps": 2},
    "optimiser": {"learning_rate": 5e-4, "epochs": 2},
}
BRIEF = {"interval": 0, "samples": {"val": 100}, "attacks": [{"kind": "fgsm"}], "guards": {"enabled": False}}
BATCH = 250
Norm = Literal["linf", "l2"]
NAMES = {"linf": "Linf", "l2": "L2"}
"""What pyautoattack calls the norms."""
Attack = Callable[[torch.nn.Module, Tensor, Tensor, float], Tensor]
"""Classifier, images, labels, radius -> attacked images."""


class Logits(torch.nn.Module):
    """The zero-shot classifier as the libraries want it: a module from pixels in [0, 1] to logits."""

    def __init__(self, model: VisionLanguageModel, classes: Tensor) -> None:
        super().__init__()
        self.model, self.classes = model.eval(), classes

    def forward(self, images: Tensor) -> Tensor:
        """Returns `(B, C)`."""
        return self.model.logit_scale * normalize(self.model.encode_images(images), dim=-1) @ self.classes.T


def ours(
    classify: Classifier, images: Tensor, labels: Tensor, attack: EvaluationAttackConfig, epsilon: float
) -> Tensor:
    """Returns which images withstand our attack."""
    places = torch.arange(len(images), device=images.device)
    kept = [
        withstands(classify, images[part], labels[part], attack, epsilon, Streams.of(0, "benchmark", samples=part))
        for part in places.split(BATCH)
    ]
    return torch.cat(kept)


def torchattack(name: str, **settings: Any) -> Attack:
    """Returns an attack of torchattacks."""

    def run(model: torch.nn.Module, images: Tensor, labels: Tensor, epsilon: float) -> Tensor:
        import torchattacks

        attacked: Tensor = getattr(torchattacks, name)(model, eps=epsilon, **settings)(images, labels)
        return attacked

    return run


def part_of_autoattack(part: str, norm: Norm, queries: int = 5000) -> Attack:
    """Returns a part of the authors' AutoAttack."""

    def run(model: torch.nn.Module, images: Tensor, labels: Tensor, epsilon: float) -> Tensor:
        from pyautoattack import AutoAttack

        evaluator = AutoAttack(model, norm=NAMES[norm], eps=epsilon, attacks=[part], version="custom", seed=0)
        evaluator.square.n_queries = queries
        evaluator.apgd.n_restarts = evaluator.fab.n_restarts = 1  # as in its version `standard`
        attacked, _ = evaluator.run_standard_evaluation(images, labels, batch_size=BATCH)
        return attacked

    return run


Pair = tuple[str, EvaluationAttackConfig, str, Attack]
"""Name, ours, library, theirs."""


def pairs(norm: Norm, epsilon: float) -> tuple[Pair, ...]:
    """Returns every attack beside that of a library, with the same settings."""
    step = epsilon / 8  # 1/255 of 8/255
    kind = "PGD" if norm == "linf" else "PGDL2"
    return (
        (
            "pgd-20",
            Pgd(norm=norm, steps=20, step_size=step),
            "torchattacks",
            torchattack(kind, steps=20, alpha=step),
        ),
        ("apgd-ce-100", ApgdCe(norm=norm), "pyautoattack", part_of_autoattack("apgd-ce", norm)),
        ("apgd-t-100", ApgdT(norm=norm), "pyautoattack", part_of_autoattack("apgd-t", norm)),
        ("fab-t-100", FabT(norm=norm), "pyautoattack", part_of_autoattack("fab-t", norm)),
        ("square-1000", Square(norm=norm, steps=1000), "pyautoattack", part_of_autoattack("square", norm, 1000)),
        ("square-5000", Square(norm=norm), "pyautoattack", part_of_autoattack("square", norm)),
    )


def compare(
    model: Logits, images: Tensor, labels: Tensor, norm: Norm, epsilon: float, wanted: set[str]
) -> Iterator[str]:
    """Yields a line per pair: robust accuracy over all images, and seconds of the processor."""
    with torch.no_grad():
        clean = model(images).argmax(1) == labels
    yield f"clean {100 * clean.double().mean():.1f} %, {len(images)} images, {norm} {radius_text(norm, epsilon)}"
    standing, truth = images[clean], labels[clean]
    for name, attack, library, theirs in pairs(norm, epsilon):
        if find_spec(library) is None or (wanted and name not in wanted):
            continue
        begin = time.process_time()
        own = 100 * ours(model, standing, truth, attack, epsilon).sum().item() / len(images)
        own_seconds = time.process_time() - begin
        begin = time.process_time()
        attacked = theirs(model, standing.clone(), truth.clone(), epsilon).detach()
        seconds = time.process_time() - begin
        with torch.no_grad():
            other = 100 * (model(attacked).argmax(1) == truth).sum().item() / len(images)
        yield (
            f"| {name} | {norm} | {len(images)} | {own:.1f} | {own_seconds:.0f} s "
            f"| {library} | {other:.1f} | {seconds:.0f} s | {own - other:+.1f} |"
        )


def radius_text(norm: Norm, epsilon: float) -> str:
    """Writes a radius as it is written for its norm."""
    return f"{epsilon * 255:g}/255" if norm == "linf" else f"{epsilon:g}"


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--epsilon", type=float, default=8.0, help="of L-inf, in 1/255")
    parser.add_argument("--radius", type=float, default=1.0, help="of L2")
    parser.add_argument("--norms", nargs="*", default=["linf", "l2"], choices=["linf", "l2"])
    parser.add_argument("--models", nargs="*", default=["robust", "pretrained"], choices=["robust", "pretrained"])
    parser.add_argument("--attacks", nargs="*", default=[], help="names of the first column; default: all")
    parser.add_argument("--adapted", help="a state saved by an earlier run")
    parser.add_argument("--save", help="where the state of the robust model is kept")
    options = parser.parse_args()
    if not any(find_spec(library) for library in ("torchattacks", "pyautoattack")):
        parser.exit(1, "neither torchattacks nor pyautoattack is installed\n")
    bench, config = Workbench(), parse(TrialConfig, ROBUST)
    if options.adapted:
        state = torch.load(options.adapted, weights_only=True)
    else:
        *_, report = fine_tune(config, parse(EvaluationProtocol, BRIEF), bench=bench)
        state = report.state
        if options.save:
            torch.save(state, options.save)
    data = bench.split(DataConfig(), "test", Preprocessing(28), options.samples)
    classes = bench.class_features(ModelConfig(), DataConfig())
    models = {"robust": restore(config, bench, state).model, "pretrained": bench.model(ModelConfig())}
    radii: dict[Norm, float] = {"linf": options.epsilon / 255, "l2": options.radius}
    images = (data.images.float() / 255).contiguous()  # pyautoattack fails on other strides
    for title in options.models:
        print(f"\n{title} model:", flush=True)
        for norm in options.norms:
            logits = Logits(models[title], classes)
            for line in compare(logits, images, data.labels, norm, radii[norm], set(options.attacks)):
                print(line, flush=True)


if __name__ == "__main__":
    main()
