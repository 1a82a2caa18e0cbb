"""The same CLIP in transformers: open_clip's standard ViT, tensor by tensor, as `CLIPModel`."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from advlora.config import ModelConfig
from advlora.errors import ModelError
from advlora.models.attention import split_attention
from advlora.models.base import VisionLanguageModel, pixel_statistics
from advlora.models.open_clip import OpenClipModel

BLOCK = r"transformer\.resblocks\.(\d+)\."
RENAMED = (
    (r"^text\.", ""),
    (rf"^visual\.{BLOCK}", r"vision_model.encoder.layers.\1."),
    (rf"^{BLOCK}", r"text_model.encoder.layers.\1."),
    (r"\.ln_(\d)\.", r".layer_norm\1."),
    (r"\.attn\.", ".self_attn."),
    (r"\.mlp\.c_fc\b", ".mlp.fc1"),
    (r"\.mlp\.c_proj\b", ".mlp.fc2"),
    (r"^visual\.conv1\.", "vision_model.embeddings.patch_embedding."),
    (r"^visual\.class_embedding$", "vision_model.embeddings.class_embedding"),
    (r"^visual\.positional_embedding$", "vision_model.embeddings.position_embedding.weight"),
    (r"^visual\.ln_pre\.", "vision_model.pre_layrnorm."),
    (r"^visual\.ln_post\.", "vision_model.post_layernorm."),
    (r"^token_embedding\.", "text_model.embeddings.token_embedding."),
    (r"^positional_embedding$", "text_model.embeddings.position_embedding.weight"),
    (r"^ln_final\.", "text_model.final_layer_norm."),
    (r"^visual\.proj$", "visual_projection.weight"),
    (r"^text_projection$", "text_projection.weight"),
)
"""Names in open_clip, attention split -> names in transformers, one after the other."""
TRANSPOSED = ("visual.proj", "text_projection")
"""open_clip multiplies by these from the right, transformers' linear layers from the left."""
OPENAI = {
    "ViT-B-32-quickgelu": "openai/clip-vit-base-patch32",
    "ViT-B-16-quickgelu": "openai/clip-vit-base-patch16",
    "ViT-L-14-quickgelu": "openai/clip-vit-large-patch14",
    "ViT-L-14-336-quickgelu": "openai/clip-vit-large-patch14-336",
}
"""Architecture of the weights `openai` in open_clip -> the same weights on the hub, in transformers' layout."""
TOLERANCE = 1e-5
ARGMAX = 2
"""The end-of-text id by which `CLIPTextModel` pools at the largest id, as open_clip does."""
CAPTIONS = ("a photo of a cat", "two red boots on the floor")


class Twin(VisionLanguageModel):
    """A `CLIPModel` with tokenizer and pixel normalisation of the open_clip model that it equals.

    Attributes:
        net: The `CLIPModel`.
    """

    def __init__(self, net: Any, source: OpenClipModel) -> None:
        super().__init__()
        self.net, self.tokenizer = net.requires_grad_(False), source.tokenizer
        self.image_size, self.embed_dim = source.image_size, source.embed_dim
        pixel_statistics(self, source.mean.flatten().tolist(), source.std.flatten().tolist())
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("logit_scale", source.logit_scale.detach().cpu().clone())
        self.register_buffer("logit_bias", None)
        self.eval()

    @property
    def vision(self) -> nn.Module:
        """The whole model, as adapters of transformers name its layers."""
        net: nn.Module = self.net
        return net

    def encode_images(self, images: Tensor) -> Tensor:
        """Embeds images `(B, 3, H, W)` in [0, 1] as `(B, D)`, not normalised."""
        features: Tensor = self.net.get_image_features((images - self.mean) / self.std).pooler_output
        return features

    @torch.no_grad()
    def encode_texts(self, captions: Sequence[str]) -> Tensor:
        """Embeds captions as `(N, D)`, not normalised, without gradient."""
        features: Tensor = self.net.get_text_features(self.tokenizer(list(captions))).pooler_output
        return features

    def save(self, folder: Path) -> None:
        """Writes the `CLIPModel`; the tokenizer stays open_clip's."""
        self.net.save_pretrained(folder)


def twin_of(model: VisionLanguageModel) -> Twin | None:
    """Returns the same function as a `CLIPModel`, on the CPU; None where transformers has no such architecture.

    Args:
        model: A model without adapter layers.
    """
    if not isinstance(model, OpenClipModel) or (net := _converted(model)) is None:
        return None
    twin = Twin(net, model)
    return twin if _equal(twin, model) else None


def as_transformers(model: VisionLanguageModel) -> Any:
    """Returns an open_clip model as the `CLIPModel` of the same function.

    Raises:
        ModelError: If transformers has no such architecture.
    """
    twin = twin_of(model)
    if twin is None:
        raise ModelError("transformers' CLIPModel has no architecture that equals this model")
    return twin.net


def twin_name(name: str) -> str:
    """Returns what transformers calls a layer or tensor of an open_clip model whose attention is split."""
    for pattern, replacement in RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


def hub_twin(config: ModelConfig) -> str | None:
    """Returns the hub's name of the same weights in transformers' layout, where it is known."""
    return OPENAI.get(config.name.replace("/", "-")) if config.pretrained == "openai" else None


def _converted(model: OpenClipModel) -> Any | None:
    """Builds the network; None where a setting or a tensor has no counterpart."""
    import transformers

    settings = model.settings["model_cfg"]
    try:
        config = _config(settings)
        with torch.device("meta"):
            net = transformers.CLIPModel(config)
    except (KeyError, TypeError, ValueError):  # an architecture of other settings
        return None
    state = _state(model.clip)
    wanted = {name: tensor.shape for name, tensor in net.state_dict().items()}
    if {name: tensor.shape for name, tensor in state.items()} != wanted:
        return None
    net.load_state_dict(state, assign=True)
    return _with_positions(net.eval())


def _config(settings: dict[str, Any]) -> Any:
    import transformers

    vision, text = settings["vision_cfg"], settings["text_cfg"]
    shared = {
        "hidden_act": "quick_gelu" if settings.get("quick_gelu") else "gelu",
        "projection_dim": settings["embed_dim"],
    }
    return transformers.CLIPConfig(
        projection_dim=settings["embed_dim"],
        vision_config={
            **_sizes(vision, vision["width"] // vision.get("head_width", 64)),
            **shared,
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
        },
        text_config={
            **_sizes(text, text["heads"]),
            **shared,
            "vocab_size": text["vocab_size"],
            "max_position_embeddings": text["context_length"],
            "bos_token_id": None,
            "eos_token_id": ARGMAX,
        },
    )


def _sizes(tower: dict[str, Any], heads: int) -> dict[str, int]:
    return {
        "hidden_size": tower["width"],
        "intermediate_size": int(tower["width"] * tower.get("mlp_ratio", 4.0)),
        "num_hidden_layers": tower["layers"],
        "num_attention_heads": heads,
    }


def _state(clip: nn.Module) -> dict[str, Tensor]:
    split = split_attention(copy.deepcopy(clip)).cpu()
    return {
        twin_name(name): tensor.T.contiguous() if name.removeprefix("text.") in TRANSPOSED else tensor
        for name, tensor in split.state_dict().items()
        if not name.endswith("attn_mask")
    }


def _with_positions(net: Any) -> Any:
    """Fills the buffers that no state holds: 0, 1, 2 ... of the positions, `(1, L)`."""
    for embeddings in (net.vision_model.embeddings, net.text_model.embeddings):
        count = embeddings.position_embedding.num_embeddings
        embeddings.register_buffer("position_ids", torch.arange(count)[None], persistent=False)
    return net


@torch.no_grad()
def _equal(twin: Twin, model: OpenClipModel) -> bool:
    """Whether both embed the same noise, and the same captions, alike."""
    original = copy.deepcopy(model).cpu().eval()
    shape = (2, 3, model.image_size, model.image_size)
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    pairs = [(twin.encode_images(images), original.encode_images(images))]
    if model.tokenizer is not None:
        pairs.append((twin.encode_texts(CAPTIONS), original.encode_texts(CAPTIONS)))
    return all(bool(((a - b).norm(dim=-1) <= TOLERANCE * b.norm(dim=-1)).all()) for a, b in pairs)
