"""Pretrains the embedded CLIP on fashion, emoji and shapes (contrastive loss, Radford et al., 2021).

Concepts repeat within a batch, so pairs with the same concept count as positives. A batch holds one domain only:
negatives from another domain would be trivial. Fashion images of the shipped splits are never seen here.

Usage:
    python -m scripts.embedded.pretrain --steps 12000 --downloads build/downloads --out advlora/embedded/tiny-clip
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn

from scripts.embedded import sources
from scripts.embedded.captions import CONTEXT_LENGTH, TEMPLATES, VOCABULARY, train_tokenizer
from scripts.embedded.splits import PRETRAINING

MODEL = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 28, "layers": 4, "width": 128, "head_width": 32, "patch_size": 7},
    "text_cfg": {
        "context_length": CONTEXT_LENGTH,
        "vocab_size": VOCABULARY,
        "hf_tokenizer_name": "tokenizer.json",
        "width": 128,
        "heads": 4,
        "layers": 2,
    },
}
PREPROCESS = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bicubic"}
DOMAIN_SHARE = {"fashion": 0.5, "emoji": 0.4, "shapes": 0.1}


def load_domains(downloads: Path, fashion_folder: Path) -> list[sources.Domain]:
    """Reads all pretraining images, without any Fashion-MNIST image that is shipped."""
    images, labels = sources.fashion("train", fashion_folder)
    concepts = [sources.FASHION_CLASSES[label] for label in labels]
    fashion = sources.Domain("fashion", images, concepts).select(np.arange(len(images))[PRETRAINING])
    return [fashion, sources.emoji(downloads), sources.shapes(downloads)]


class Batches:
    """Draws batches of one domain each; every draw comes from one seeded generator."""

    def __init__(self, domains: list[sources.Domain], tokens: dict[str, Tensor], size: int, seed: int) -> None:
        self._domains, self._size = domains, size
        self._generator = np.random.default_rng(seed)
        self._images = [torch.from_numpy(domain.images).permute(0, 3, 1, 2).contiguous() for domain in domains]
        self._vocabularies = [sorted(set(domain.concepts)) for domain in domains]
        self._targets = [
            np.array([names.index(c) for c in domain.concepts])
            for domain, names in zip(domains, self._vocabularies, strict=True)
        ]
        self._tokens = tokens

    def draw(self) -> tuple[Tensor, Tensor, Tensor]:
        """Returns images `(B, 3, 28, 28)` in [0, 1], tokens `(B, L)` and the concept of each pair `(B,)`."""
        shares = [DOMAIN_SHARE[domain.name] for domain in self._domains]
        which = self._generator.choice(len(self._domains), p=shares)
        rows = self._generator.choice(len(self._targets[which]), self._size, replace=False)
        concepts = self._targets[which][rows]
        template = self._generator.integers(len(TEMPLATES[self._domains[which].name]), size=self._size)
        tokens = self._tokens[self._domains[which].name][concepts, template]
        return self._augment(self._images[which][rows]), tokens, torch.from_numpy(concepts)

    def _augment(self, images: Tensor) -> Tensor:
        """Shifts the batch by up to two pixels and mirrors half of it; emoji and clothes bear both."""
        padded = F.pad(images.float() / 255, (2, 2, 2, 2), mode="replicate")
        top, left = self._generator.integers(0, 5, size=2)
        cropped = padded[..., top : top + sources.SIDE, left : left + sources.SIDE]
        mirror = torch.from_numpy(self._generator.random(len(images)) < 0.5)
        return torch.where(mirror[:, None, None, None], cropped.flip(-1), cropped)


def tokenize(domains: list[sources.Domain], folder: Path) -> dict[str, Tensor]:
    """Tokenizes every concept under every template: domain -> `(concepts, templates, L)`."""
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    table = {}
    for domain in domains:
        names = sorted(set(domain.concepts))
        captions = [t.format(name) for name in names for t in TEMPLATES[domain.name]]
        table[domain.name] = tokenizer(captions).view(len(names), -1, CONTEXT_LENGTH)
    return table


def contrastive_loss(image: Tensor, text: Tensor, scale: Tensor, concepts: Tensor) -> Tensor:
    """Symmetric InfoNCE whose targets spread over all pairs with the same concept."""
    logits = scale * image @ text.T
    targets = (concepts[:, None] == concepts[None]).float()
    targets = targets / targets.sum(1, keepdim=True)
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


def train(model: nn.Module, batches: Batches, arguments: argparse.Namespace) -> None:
    """Runs AdamW with warm-up and cosine decay; weight decay spares vectors, as in CLIP's recipe."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": arguments.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=arguments.learning_rate, betas=(0.9, 0.98))
    begin, running = time.time(), 0.0
    for step in range(arguments.steps):
        progress = step / arguments.steps
        rate = arguments.learning_rate * min(1.0, (step + 1) / 500) * 0.5 * (1 + math.cos(math.pi * progress))
        for group in optimiser.param_groups:
            group["lr"] = rate
        images, tokens, concepts = batches.draw()
        captions, caption_of = tokens.unique(dim=0, return_inverse=True)
        image, text, scale = model((images - 0.5) / 0.5, captions)
        loss = contrastive_loss(image, text[caption_of], scale, concepts)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(50))
        running += (loss.item() - running) * (0.02 if step else 1.0)
        if step % 250 == 0 or step == arguments.steps - 1:
            print(f"step {step:6d}  loss {running:.3f}  {time.time() - begin:6.0f} s", flush=True)
        if step % 2000 == 1999 or step == arguments.steps - 1:
            write_weights(model, arguments.out, step + 1, arguments.batch_size)


def write_weights(model: nn.Module, folder: Path, steps: int, batch_size: int) -> None:
    """Writes the weights in the layout that open_clip's `local-dir:` reads, with a record of their training."""
    record = {"format": "pt", "steps": str(steps), "batch_size": str(batch_size)}
    (folder / "open_clip_model.safetensors").write_bytes(save(model.state_dict(), record))


def write_config(folder: Path) -> None:
    """Writes the architecture and the preprocessing beside the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"model_cfg": MODEL, "preprocess_cfg": PREPROCESS}, indent=2)
    (folder / "open_clip_config.json").write_text(text + "\n")


def parser() -> argparse.ArgumentParser:
    """Describes the command line; the shipped weights come from its defaults."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--steps", type=int, default=12000)
    options.add_argument("--batch-size", type=int, default=128)
    options.add_argument("--learning-rate", type=float, default=1e-3)
    options.add_argument("--weight-decay", type=float, default=0.3)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--downloads", type=Path, default=Path("build/downloads"))
    options.add_argument("--fashion", type=Path, default=sources.FASHION_FOLDER)
    options.add_argument("--out", type=Path, default=Path("advlora/embedded/tiny-clip"))
    return options


def main() -> None:
    """Makes the tokenizer, trains, and saves."""
    arguments = parser().parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    domains = load_domains(arguments.downloads, arguments.fashion)
    print({domain.name: domain.images.shape for domain in domains}, flush=True)
    write_config(arguments.out)
    train_tokenizer({domain.name: domain.concepts for domain in domains}, arguments.out)
    model = open_clip.create_model(f"local-dir:{arguments.out}", load_weights=False)
    batches = Batches(domains, tokenize(domains, arguments.out), arguments.batch_size, arguments.seed)
    train(model, batches, arguments)


if __name__ == "__main__":
    main()
