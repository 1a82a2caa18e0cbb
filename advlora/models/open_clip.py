"""open_clip models: loading by name, tag, file or folder, and writing back in open_clip's own layout."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from advlora.config import HUB, LOCAL
from advlora.errors import ModelError, first_line
from advlora.models.attention import fused_state_dict, split_attention
from advlora.models.base import Tower, TowerName, VisionLanguageModel, pixel_statistics
from advlora.models.checkpoint import reason
from advlora.models.preprocessing import Preprocessing, of_open_clip
from advlora.models.quiet import contained
from advlora.models.roles import OPEN_CLIP, TIMM
from advlora.models.tensors import write_tensors
from advlora.models.vocabulary import check_vocabulary

SETTINGS_FILE, WEIGHTS_FILE = "open_clip_config.json", "open_clip_model.safetensors"
TOKENIZER_FILES = ("tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "*.model")
TEXT_BATCH = 256
TEXT_PARTS = ("transformer.", "token_embedding.", "positional_embedding", "ln_final.", "text_projection")
"""What belongs to the text tower where open_clip keeps it in the root of the model."""


class OpenClipModel(VisionLanguageModel):
    """A frozen open_clip model with its own tokenizer and pixel normalisation."""

    def __init__(self, clip: nn.Module, tokenizer: Any, settings: dict[str, Any], folder: Path | None = None) -> None:
        """Wraps and freezes.

        Args:
            clip: As `open_clip.create_model` returns it; its attention may be split.
            tokenizer: Maps a list of captions to `(N, context)` token ids.
            settings: `model_cfg` and `preprocess_cfg`, as in `open_clip_config.json`.
            folder: Where the tokenizer's files lie, if they do.
        """
        super().__init__()
        self.clip: Any = clip.requires_grad_(False)
        self.tokenizer, self.settings, self.folder = tokenizer, settings, folder
        self.image_size, self.embed_dim = _square(clip), int(settings["model_cfg"]["embed_dim"])
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("logit_scale", clip.get_parameter("logit_scale").detach().exp().squeeze())
        bias = getattr(clip, "logit_bias", None)
        self.register_buffer("logit_bias", None if bias is None else bias.detach().clone().squeeze())
        pixel_statistics(self, settings["preprocess_cfg"]["mean"], settings["preprocess_cfg"]["std"])
        self.eval()

    def __deepcopy__(self, memo: dict[int, Any]) -> OpenClipModel:
        """Copies all but the tokenizer, which never changes and takes longer to copy than a small model."""
        memo[id(self.tokenizer)] = self.tokenizer
        twin = object.__new__(type(self))
        memo[id(self)] = twin
        twin.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return twin

    @property
    def vision(self) -> nn.Module:
        """The vision tower `visual`."""
        tower: nn.Module = self.clip.visual
        return tower

    @property
    def preprocessing(self) -> Preprocessing:
        """See `VisionLanguageModel`."""
        return of_open_clip(self.settings["preprocess_cfg"], self.image_size)

    def tower(self, name: TowerName) -> Tower:
        """See `VisionLanguageModel`. The attention of the text tower is split on the first call."""
        tower = open_clip_tower(self.clip, name)
        if name == "text":
            split_attention(self.clip.get_submodule("transformer") if tower.module is self.clip else tower.module)
        return tower

    def encode_images(self, images: Tensor) -> Tensor:
        """Embeds images `(B, 3, H, W)` in [0, 1] as `(B, D)`, not normalised."""
        features: Tensor = self.clip.encode_image((images - self.mean) / self.std, normalize=False)
        return features

    @torch.no_grad()
    def encode_texts(self, captions: Sequence[str]) -> Tensor:
        """Embeds captions as `(N, D)`, not normalised, without gradient."""
        return self.embed_texts(captions)

    def embed_texts(self, captions: Sequence[str]) -> Tensor:
        """See `VisionLanguageModel`."""
        tokens = self.tokenizer(list(captions)).to(self.logit_scale.device)
        return torch.cat([self.clip.encode_text(part, normalize=False) for part in tokens.split(TEXT_BATCH)])

    def save(self, folder: Path) -> None:
        """Writes what `open_clip.create_model("local-dir:FOLDER")` and `get_tokenizer` read."""
        folder.mkdir(parents=True, exist_ok=True)
        write_tensors(fused_state_dict(self.clip), folder / WEIGHTS_FILE)
        (folder / SETTINGS_FILE).write_text(json.dumps(self.settings, indent=2))
        if self.folder is not None:
            for pattern in TOKENIZER_FILES:
                for file in filter(Path.is_file, self.folder.glob(pattern)):
                    shutil.copyfile(file, folder / file.name)
        elif hasattr(self.tokenizer, "save_pretrained"):
            self.tokenizer.save_pretrained(folder)


def load_open_clip(
    name: str, pretrained: str | None = None, *, split: bool = True, projections: bool = True
) -> OpenClipModel:
    """Loads a checked reference.

    Args:
        name: Architecture, `local-dir:PATH`, or `hf-hub:NAME`.
        pretrained: Tag or file; None for a folder.
        split: Whether the attention of the vision tower is split; if not, every module is open_clip's own.
        projections: Whether the `qkv` of timm towers is split too, as for training.

    Raises:
        ModelError: If the weights or the tokenizer cannot be downloaded or read.
    """
    import open_clip

    with contained():
        try:
            clip = open_clip.create_model(name, pretrained=pretrained, require_pretrained=True)
            tokenizer = open_clip.get_tokenizer(name)
        except Exception as error:  # open_clip, the hub, safetensors and pickle share no base class of errors
            raise ModelError(_unreadable(name, pretrained, error)) from error
    if (words := getattr(tokenizer, "tokenizer", None)) is not None:
        check_vocabulary(name, len(words), _vocabulary(clip))
    if split:
        split_attention(clip.visual, projections=projections)
    preprocess = open_clip.get_model_preprocess_cfg(clip)
    settings = {"model_cfg": open_clip.get_model_config(name), "preprocess_cfg": preprocess}
    return OpenClipModel(clip, tokenizer, settings, Path(name.removeprefix(LOCAL)) if name.startswith(LOCAL) else None)


def settings_of(name: str) -> dict[str, Any]:
    """Returns the `model_cfg` of an architecture, folder or model of the hub.

    Raises:
        ModelError: If the hub is not reachable, or holds no such model in open_clip's layout.
    """
    import open_clip

    with contained():
        try:
            settings: dict[str, Any] = open_clip.get_model_config(name)
        except Exception as error:  # the hub's errors share no base class
            raise ModelError(_unreadable(name, None, error)) from error
    return settings


def blank_open_clip(name: str, tower: TowerName) -> Tower:
    """Builds a tower of a checked reference on the meta device, attention split; reads no weights.

    Raises:
        ModelError: If open_clip cannot build the architecture.
    """
    import open_clip

    settings = settings_of(name)
    with TemporaryDirectory() as folder, contained(), torch.device("meta"):
        if name.startswith(HUB):  # by its own name, open_clip would download the weights
            Path(folder, SETTINGS_FILE).write_text(json.dumps({"model_cfg": settings}))
        place = f"{LOCAL}{folder}" if name.startswith(HUB) else name
        try:
            clip = open_clip.create_model(place, load_weights=False, pretrained_text=False, device="meta")
        except Exception as error:  # a malformed description fails in as many ways as it has keys
            raise ModelError(f"open_clip cannot build model '{name}': {first_line(error)}") from error
        split_attention(clip)
        return open_clip_tower(clip, tower)


def open_clip_tower(clip: Any, name: TowerName) -> Tower:
    """Returns a tower of an open_clip model; the old CLIP class keeps the text tower in its root."""
    if name == "text":
        nested = getattr(clip, "text", None)
        if nested is not None:
            return Tower(name, nested, OPEN_CLIP, projection="text_projection")
        return Tower(name, clip, OPEN_CLIP, TEXT_PARTS, projection="text_projection")
    if hasattr(clip.visual, "trunk"):
        return Tower(name, clip.visual, TIMM, projection="head.proj.")
    return Tower(name, clip.visual, OPEN_CLIP, projection="proj")


def _vocabulary(clip: Any) -> int:
    """Returns how many tokens the text tower has embeddings for."""
    text = getattr(clip, "text", None) or clip
    table = text.token_embedding if hasattr(text, "token_embedding") else text.transformer.get_input_embeddings()
    return int(table.num_embeddings)


def _square(clip: Any) -> int:
    size = clip.visual.image_size
    height, width = size if isinstance(size, (tuple, list)) else (size, size)
    if height != width:
        raise ModelError(f"the model takes images of {height} x {width} pixels, but only square ones are supported")
    return int(height)


def _unreadable(name: str, pretrained: str | None, error: Exception) -> str:
    if not name.startswith(HUB) and (pretrained is None or Path(pretrained).is_file()):
        return f"model '{name}' cannot be read{f' from {pretrained!r}' if pretrained else ''}: {reason(error)}"
    what = f"the weights '{pretrained}' of model '{name}'" if pretrained else f"model '{name}'"
    return f"{what} cannot be downloaded or read (is the Hugging Face hub reachable?): {reason(error)}"
