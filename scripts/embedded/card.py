"""Measures the embedded model and writes its model card (`README.md` beside the weights).

Usage:
    python -m scripts.embedded.card --model advlora/embedded/tiny-clip
"""

from __future__ import annotations

import argparse
from pathlib import Path

import open_clip
import torch
from torch import Tensor

from advlora.adapters.clustering import kmeans
from advlora.config import DataConfig, EvaluationAttackConfig, EvaluationProtocol, ModelConfig, SamplesConfig
from advlora.evaluator import evaluate
from advlora.models import linear_shapes, load_model
from advlora.models.attention import split_attention
from advlora.workbench import Workbench

ROLES = ("q_proj", "k_proj", "v_proj", "out_proj", "c_fc", "c_proj")
TOP, CLUSTERS = 8, 16
STRENGTHS = (1 / 255, 2 / 255, 4 / 255, 8 / 255, 16 / 255, 32 / 255)

CARD = """# tiny-clip

A small CLIP (open_clip's own model classes; 28 x 28 pixels, patch 7, 4 blocks of width 128; {parameters:,} parameters)
for studies that run on a laptop. Made by `make pretrain-embedded`; licence MIT.

## Training data
- Fashion-MNIST (MIT): 48,000 training images, with **template captions** ("a photo of a dress"). None of the images
  that ship with this package (train, val, test) is among them.
- Emoji of three vendors with their Unicode names: Noto Emoji (Apache-2.0), Twemoji (CC-BY-4.0, by Twitter and
  contributors), Fluent Emoji (MIT), scaled to 28 x 28. One in five Fluent images was left out.
- The coloured shapes of easy-VQA (MIT).

Contrastive loss, pairs with the same concept count as positives; clean training only: **no adversarial training**.

## Accuracy
Zero-shot on Fashion-MNIST, first {samples} images of `test`, ten classes (chance 10 %). Robust accuracy under
PGD-{steps} in the L-inf ball, one restart, fp32, per loss:

| strength | cross-entropy | margin |
|---|---|---|
{accuracy}

## Structure of the weights
Clustering can only help where weights have structure. Mean over the blocks of the vision tower: share of the squared
singular values in the top {top}, and variance explained by k-means with {clusters} clusters of the rows, beside the
same architecture with random weights.

| role | top-{top} energy | random | ratio | k-means | random | ratio |
|---|---|---|---|---|---|---|
{structure}
"""


def accuracy_rows(model: ModelConfig, samples: int, steps: int) -> list[str]:
    """Measures clean and robust accuracy under each loss of the attack."""
    bench, data = Workbench(), DataConfig()
    network = bench.model(model)
    results = {}
    for loss in ("cross_entropy", "margin"):
        attack = EvaluationAttackConfig(loss=loss, steps=steps)
        protocol = EvaluationProtocol(
            attacks=(attack,), epsilon=STRENGTHS[3], curve=STRENGTHS, samples=SamplesConfig(test=samples)
        )
        images = bench.split(data, "test", network.image_size, samples)
        features = bench.class_features(model, data)
        device = torch.device("cpu")
        results[loss] = evaluate(network, features, images, protocol, split="test", curve=True, device=device)
    names = [name for name in results["margin"] if "robust" in name]
    rows = [f"| clean | {results['margin']['test/clean_r1']:.1%} | |"]
    names.sort(key=lambda name: float(name.rpartition(":")[2].partition("_")[0]))
    for name in names:
        strength = name.rpartition(":")[2].replace("_", "/")
        rows.append(f"| {strength} | {results['cross_entropy'][name]:.1%} | {results['margin'][name]:.1%} |")
    return rows


def structure(vision: torch.nn.Module, names: list[str]) -> dict[str, tuple[float, float]]:
    """Returns top energy and k-means explained variance per role, averaged over blocks."""
    found: dict[str, list[tuple[float, float]]] = {role: [] for role in ROLES}
    for name in names:
        weight = vision.get_submodule(name).weight.detach()
        found[name.rpartition(".")[2]].append((top_energy(weight), explained_variance(weight)))
    return {role: tuple(map(float, torch.tensor(values).mean(0))) for role, values in found.items()}  # type: ignore[misc]


def top_energy(weight: Tensor) -> float:
    """Share of the squared singular values in the largest ones."""
    energy = torch.linalg.svdvals(weight).square()
    return float(energy[:TOP].sum() / energy.sum())


def explained_variance(weight: Tensor) -> float:
    """Share of the rows' energy that the centroids of k-means hold."""
    return kmeans(weight, CLUSTERS, iterations=25, seed=0).explained_variance


def structure_rows(model: ModelConfig, folder: Path) -> list[str]:
    """Compares the trained vision tower with a random one of the same architecture."""
    names = list(linear_shapes(model, "all-linear"))
    trained = structure(load_model(model).vision, names)
    torch.manual_seed(0)
    random = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    split_attention(random.visual)
    untrained = structure(random.visual, names)
    rows = []
    for role in ROLES:
        (energy, variance), (energy_0, variance_0) = trained[role], untrained[role]
        rows.append(
            f"| {role} | {energy:.2f} | {energy_0:.2f} | {energy / energy_0:.1f} "
            f"| {variance:.2f} | {variance_0:.2f} | {variance / variance_0:.1f} |"
        )
    return rows


def main() -> None:
    """Measures and writes the card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("advlora/embedded/tiny-clip"))
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    model = ModelConfig(source="open_clip", name=f"local-dir:{arguments.model}")
    network = open_clip.create_model(f"local-dir:{arguments.model}", load_weights=False)
    card = CARD.format(
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        samples=arguments.samples,
        steps=arguments.steps,
        top=TOP,
        clusters=CLUSTERS,
        accuracy="\n".join(accuracy_rows(model, arguments.samples, arguments.steps)),
        structure="\n".join(structure_rows(model, arguments.model)),
    )
    (arguments.model / "README.md").write_text(card)
    print(card)


if __name__ == "__main__":
    main()
