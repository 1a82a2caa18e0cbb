"""Embeddings by a pretrained model, computed once: dealt to the processes of a group, those of texts kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, MutableMapping

import torch
from torch import Tensor

from advlora.config import ModelConfig
from advlora.data.cache import CACHE_VARIABLE, cache_folder
from advlora.distributed import Group
from advlora.identity import code_version, fingerprint, local_content
from advlora.kept import keep_tensors, kept_tensors
from advlora.models import VisionLanguageModel

CHUNK = 256
"""Images or texts that are embedded at once."""
REMEDY = f"free space there, or name another folder with {CACHE_VARIABLE}"


def in_shares(count: int, width: int, embed: Callable[[Tensor], Tensor], device: torch.device, group: Group) -> Tensor:
    """Embeds samples chunk by chunk, each in one process of a group; every process gets all.

    A chunk holds the same samples whatever the number of processes, so they give the same numbers.

    Args:
        count: Number of samples N.
        width: Dimension D of an embedding.
        embed: Maps positions `(n,)` to embeddings `(n, D)`.
        device: Where it computes.
        group: The processes; all of them call this.

    Returns:
        `(N, D)`, float32, on the CPU.
    """
    table = torch.zeros(count, width)
    for positions in torch.split(torch.arange(count), CHUNK * group.world_size):
        block = torch.zeros(len(positions), width, device=device)
        own = slice(group.rank * CHUNK, (group.rank + 1) * CHUNK)
        if len(positions[own]):
            block[own] = embed(positions[own]).float()
        table[positions] = group.sum(block).cpu()
    return table


def kept(known: MutableMapping[str, Tensor], key: str, compute: Callable[[], Tensor], group: Group) -> Tensor:
    """Returns features from the memory of this process, from disk, or newly computed by the whole group.

    Args:
        known: The memory.
        key: Names the features and everything that they depend on.
        compute: Called in every process where one of them has no features.
        group: The processes; all of them call this.

    Raises:
        UserError: If the folder on disk is full. What was computed stays in the memory.
    """
    file = cache_folder("texts") / f"{key}.safetensors"
    found = known[key] if key in known else (kept_tensors(file) or {}).get("features")
    if not all(group.gather(found is not None)):
        found = compute()
    assert found is not None, "every process has features, or all have computed them"
    known[key] = found
    if not file.exists():
        keep_tensors(file, {"features": found}, REMEDY)
    return found


def text_key(model: ModelConfig, weights: str, captions: tuple[str, ...], device: torch.device) -> str:
    """Names the features of captions by all that they depend on.

    Args:
        model: The configuration of the model; it decides about the tokens of a caption.
        weights: Hash of its weights.
        captions: The captions, in order.
        device: Where it computes: devices round differently.
    """
    tokens = local_content(model), hashlib.sha256("\0".join(captions).encode()).hexdigest()
    return fingerprint(code_version(), torch.__version__, device.type, model.model_dump(mode="json"), weights, *tokens)


def text_weights(model: VisionLanguageModel) -> str:
    """Hashes all weights outside the vision tower."""
    seen = {id(value) for value in model.vision.state_dict(keep_vars=True).values()}
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict(keep_vars=True).items()):
        if id(value) not in seen:
            content = value.detach().cpu().contiguous()
            digest.update(f"{name} {tuple(content.shape)} {content.dtype}\n".encode())
            digest.update(content.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
