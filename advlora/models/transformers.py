"""CLIP, SigLIP and BLIP retrieval models of transformers: loading by name or folder, writing back in its own layout."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from advlora.config import LOCAL, expanded
from advlora.errors import ModelError, first_line
from advlora.models.attention import fuse_projections, split_attention
from advlora.models.base import Tower, TowerName, VisionLanguageModel, pixel_statistics
from advlora.models.preprocessing import Preprocessing, of_processor
from advlora.models.quiet import contained_transformers
from advlora.models.roles import RoleMap
from advlora.models.vocabulary import check_vocabulary

TEXT_BATCH = 256
BLIP_TOKENS = 35
"""Longest caption in tokens, as BLIP was trained (Li et al. 2022, `models/blip_retrieval.py`)."""
ENC = "[ENC]"
BLIP_TEMPERATURE = 0.07
"""Start of BLIP's learned temperature; its transformers checkpoints do not hold the learned value."""
CLIP_ROLES = RoleMap(
    r"vision_model\.encoder\.layers\.(\d+)",
    query=("self_attn.q_proj",),
    key=("self_attn.k_proj",),
    value=("self_attn.v_proj",),
    output=("self_attn.out_proj",),
    up=("mlp.fc1",),
    down=("mlp.fc2",),
)
BLIP_VISION_ROLES = replace(
    CLIP_ROLES,
    query=("self_attn.qkv.q_proj",),
    key=("self_attn.qkv.k_proj",),
    value=("self_attn.qkv.v_proj",),
    output=("self_attn.projection",),
)
BLIP_TEXT_ROLES = RoleMap(
    r"text_encoder\.encoder\.layer\.(\d+)",
    query=("attention.self.query", "crossattention.self.query"),
    key=("attention.self.key", "crossattention.self.key"),
    value=("attention.self.value", "crossattention.self.value"),
    output=("attention.output.dense", "crossattention.output.dense"),
    up=("intermediate.dense",),
    down=("output.dense",),
)


class TransformersModel(VisionLanguageModel):
    """A frozen transformers model with its own tokenizer and pixel normalisation."""

    def __init__(self, net: Any, tokenizer: Any, processor: Any) -> None:
        """Wraps and freezes.

        Args:
            net: The model; its attention may be split.
            tokenizer: Maps captions to token ids.
            processor: The image processor; its mean and standard deviation are used here, the rest is `preprocessing`.
        """
        super().__init__()
        self.net: Any = net.requires_grad_(False)
        self.tokenizer, self.processor = tokenizer, processor
        self.image_size = int(net.config.vision_config.image_size)
        self.mean: Tensor
        self.std: Tensor
        pixel_statistics(self, processor.image_mean, processor.image_std)
        self.register_buffer("logit_scale", self._scale())
        self.register_buffer("logit_bias", self._bias())
        self.eval()

    def __deepcopy__(self, memo: dict[int, Any]) -> TransformersModel:
        """Copies all but tokenizer and image processor, which never change."""
        memo[id(self.tokenizer)], memo[id(self.processor)] = self.tokenizer, self.processor
        twin = object.__new__(type(self))
        memo[id(self)] = twin
        twin.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return twin

    @property
    def vision(self) -> nn.Module:
        """The whole model: both towers' layers are named relative to it, as in transformers and PEFT."""
        net: nn.Module = self.net
        return net

    @property
    def preprocessing(self) -> Preprocessing:
        """See `VisionLanguageModel`.

        Raises:
            ModelError: If the image processor makes images of another size than the model takes.
        """
        return of_processor(self.processor, self.image_size)

    @torch.no_grad()
    def encode_texts(self, captions: Sequence[str]) -> Tensor:
        """Embeds captions as `(N, D)`, not normalised, without gradient."""
        return self.embed_texts(captions)

    def embed_texts(self, captions: Sequence[str]) -> Tensor:
        """See `VisionLanguageModel`."""
        parts = [captions[start : start + TEXT_BATCH] for start in range(0, len(captions), TEXT_BATCH)]
        return torch.cat([self._texts(self._tokens(part)) for part in parts])

    def save(self, folder: Path) -> None:
        """Writes what `from_pretrained(FOLDER)` of model, tokenizer and image processor read."""
        with contained_transformers():
            fuse_projections(copy.deepcopy(self.net)).cpu().save_pretrained(folder)  # type: ignore[operator]
            self.tokenizer.save_pretrained(folder)
            self.processor.save_pretrained(folder)

    def _tokens(self, captions: Sequence[str]) -> dict[str, Tensor]:
        tokens = self.tokenizer(list(captions), truncation=True, return_tensors="pt", **self._padding())
        return {name: ids.to(self.logit_scale.device) for name, ids in tokens.items() if name in self._inputs()}

    def _normalised(self, images: Tensor) -> Tensor:
        """Normalises pixels; an empty batch gets one black image, because transformers cannot encode an empty one.

        A process without a sample of a batch must still get a (zero) gradient; the result is cut to length after the
        pass.
        """
        images = images if len(images) else torch.cat([images, images.new_zeros(1, *images.shape[1:])])
        return (images - self.mean) / self.std

    def _inputs(self) -> tuple[str, ...]:
        return ("input_ids", "attention_mask")

    def _scale(self) -> Tensor:
        scale: Tensor = self.net.logit_scale.detach().exp().squeeze()
        return scale

    def _bias(self) -> Tensor | None:
        return None

    @abstractmethod
    def _padding(self) -> dict[str, Any]:
        """Returns how captions are padded and cut."""

    @abstractmethod
    def _texts(self, tokens: dict[str, Tensor]) -> Tensor:
        """Embeds tokens `(N, L)` as `(N, D)`."""


class Clip(TransformersModel):
    """`CLIPModel`."""

    def __init__(self, net: Any, tokenizer: Any, processor: Any) -> None:
        super().__init__(net, tokenizer, processor)
        self.embed_dim = int(net.config.projection_dim)

    def tower(self, name: TowerName) -> Tower:
        """See `VisionLanguageModel`; the projection into the joint space belongs to the tower."""
        prefix, projection = f"{name}_model.", f"{'visual' if name == 'vision' else 'text'}_projection."
        return Tower(name, self.net, _roles(name), (prefix, projection), projection)

    def encode_images(self, images: Tensor) -> Tensor:
        """Embeds images `(B, 3, H, W)` in [0, 1] as `(B, D)`, not normalised."""
        features: Tensor = self.net.get_image_features(self._normalised(images)).pooler_output
        return features[: len(images)]

    def _texts(self, tokens: dict[str, Tensor]) -> Tensor:
        features: Tensor = self.net.get_text_features(**tokens).pooler_output
        return features

    def _padding(self) -> dict[str, Any]:
        return {"padding": True, "max_length": self.net.config.text_config.max_position_embeddings}


class Siglip(Clip):
    """`SiglipModel`. Its pooling heads are not part of the blocks, so no adapter attaches to them."""

    def __init__(self, net: Any, tokenizer: Any, processor: Any) -> None:
        TransformersModel.__init__(self, net, tokenizer, processor)
        self.embed_dim = int(net.config.vision_config.hidden_size)

    def tower(self, name: TowerName) -> Tower:
        """See `VisionLanguageModel`; the vision tower has no projection."""
        return Tower(name, self.net, _roles(name), (f"{name}_model.",), "text_model.head." if name == "text" else "")

    def _padding(self) -> dict[str, Any]:
        # SigLIP was trained on captions padded to full length, without a mask.
        return {"padding": "max_length", "max_length": self.net.config.text_config.max_position_embeddings}

    def _inputs(self) -> tuple[str, ...]:
        return ("input_ids",)

    def _bias(self) -> Tensor:
        bias: Tensor = self.net.logit_bias.detach().clone().squeeze()
        return bias


class Blip(TransformersModel):
    """`BlipForImageTextRetrieval`: the contrastive heads (ITC), and the matching head (ITM) on cross-attention."""

    matches = True

    def __init__(self, net: Any, tokenizer: Any, processor: Any) -> None:
        super().__init__(net, tokenizer, processor)
        self.embed_dim = int(net.config.image_text_hidden_size)

    def tower(self, name: TowerName) -> Tower:
        """See `VisionLanguageModel`. Cross-attention belongs to the text tower; only a matching loss trains it."""
        if name == "vision":
            return Tower(name, self.net, BLIP_VISION_ROLES, ("vision_model.", "vision_proj."), "vision_proj.")
        return Tower(name, self.net, BLIP_TEXT_ROLES, ("text_encoder.", "text_proj.", "itm_head."), "text_proj.")

    def encode_images(self, images: Tensor) -> Tensor:
        """Embeds images `(B, 3, H, W)` in [0, 1] as `(B, D)`, not normalised."""
        return self.embed_tokens(self.image_tokens(images))

    def image_tokens(self, images: Tensor) -> Tensor:
        """Returns the normalised patch tokens of images in [0, 1], `(B, T, W)`, the class token first."""
        tokens: Tensor = self.net.vision_model(self._normalised(images)).last_hidden_state
        return tokens[: len(images)]

    def embed_tokens(self, tokens: Tensor) -> Tensor:
        """Projects the class token of `(B, T, W)` into the joint space, `(B, D)`."""
        features: Tensor = self.net.vision_proj(tokens[:, 0])
        return features

    def match(self, tokens: Tensor, captions: Sequence[str]) -> Tensor:
        """See `VisionLanguageModel`. The first token is `[ENC]`, with which BLIP was trained."""
        mixed = self.net.text_encoder(
            **self._pair_tokens(captions),
            encoder_hidden_states=tokens,
            encoder_attention_mask=torch.ones(tokens.shape[:2], dtype=torch.long, device=tokens.device),
        ).last_hidden_state
        logits: Tensor = self.net.itm_head(mixed[:, 0])
        return logits

    @cached_property
    def enc_token(self) -> int | None:
        """Id of `[ENC]`: the last entry of the vocabulary (Li et al. 2022, `models/blip.py`: 30523 of 30524).

        transformers' tokenizers do not know it, and its model reads `[CLS]` instead. None where the vocabulary ends
        with the tokenizer's, so that there is no such entry.
        """
        known = self.tokenizer.get_vocab()
        last = int(self.net.config.text_config.vocab_size) - 1
        found: int | None = known.get(ENC, None if last in known.values() else last)
        return found

    def _pair_tokens(self, captions: Sequence[str]) -> dict[str, Tensor]:
        tokens = self._tokens(captions)
        if self.enc_token is not None:
            tokens["input_ids"][:, 0] = self.enc_token
        return tokens

    def _texts(self, tokens: dict[str, Tensor]) -> Tensor:
        features: Tensor = self.net.text_proj(self.net.text_encoder(**tokens).last_hidden_state[:, 0])
        return features

    def _padding(self) -> dict[str, Any]:
        return {"padding": True, "max_length": min(BLIP_TOKENS, self.net.config.text_config.max_position_embeddings)}

    def _scale(self) -> Tensor:
        return torch.tensor(1 / BLIP_TEMPERATURE)


FAMILIES: dict[str, tuple[str, type[TransformersModel]]] = {
    "clip": ("CLIPModel", Clip),
    "siglip": ("SiglipModel", Siglip),
    "blip": ("BlipForImageTextRetrieval", Blip),
}
"""`model_type` of a configuration -> class in transformers, and its wrapper."""
STANDARD = {
    "openai/clip-vit-base-patch32": "CLIPConfig",
    "google/siglip-base-patch16-224": "SiglipConfig",
    "Salesforce/blip-itm-base-coco": "BlipConfig",
    "Salesforce/blip-itm-base-flickr": "BlipConfig",
}
"""Models whose shapes are the defaults of a configuration class, so that a study is checked where no hub is."""


def load_transformers(
    name: str, revision: str | None = None, *, split: bool = True, device: str = "cpu"
) -> TransformersModel:
    """Loads a model by the hub's name or `local-dir:PATH`.

    Args:
        name: Where it is.
        revision: Revision on the hub; None for the newest.
        split: Whether fused projections are split; if not, every module is transformers' own.
        device: `meta` reads no weights.

    Raises:
        ModelError: If its family is unknown, its image processor makes images of another size, or a file cannot be
            downloaded or read.
    """
    import transformers

    place = place_of(name, revision)
    where = {} if revision is None else {"revision": revision}
    with contained_transformers():
        try:
            config = _configuration(place, where, standard=device == "meta")
            kind, wrapper = _family(name, config.model_type)
            if device == "meta":
                with torch.device("meta"):
                    net = getattr(transformers, kind)(config)
            else:
                net = weights(getattr(transformers, kind), place, where)
            tokenizer, processor = None, transformers.CLIPImageProcessor()
            if device != "meta" or name.startswith(LOCAL):
                tokenizer = _tokenizer(name, place, where)
                processor = transformers.AutoImageProcessor.from_pretrained(place, **where)
                check_vocabulary(name, len(tokenizer), config.text_config.vocab_size)
        except ModelError:
            raise
        except Exception as error:  # transformers, the hub, safetensors and tokenizers share no base class of errors
            raise ModelError(_unreadable(name, error)) from error
    if split:
        split_attention(net, multihead=False)  # SigLIP's pooling head has one; no adapter belongs there
    model = wrapper(net, tokenizer, processor)
    if tokenizer is not None:
        of_processor(processor, model.image_size)  # refuses one that does not fit the model
    return model


def place_of(name: str, revision: str | None, key: str = "model.name") -> str:
    """Returns what `from_pretrained` takes, after checking that a folder holds a model.

    Args:
        name: The hub's name or `local-dir:PATH`.
        revision: Revision on the hub.
        key: The key of the configuration that holds the name.

    Raises:
        ModelError: If the folder holds no model, or a revision is given with it.
    """
    if not name.startswith(LOCAL):
        return name
    folder = Path(expanded(name).removeprefix(LOCAL))
    if revision is not None:
        raise ModelError(f"model.pretrained: '{revision}' has no effect with folder '{folder}'; leave it out")
    if not folder.is_dir():
        raise ModelError(f"{key}: folder '{folder}' does not exist")
    if not (folder / "config.json").is_file():
        raise ModelError(f"{key}: folder '{folder}' holds no config.json")
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("*.bin")):
        raise ModelError(f"{key}: folder '{folder}' holds no weights (*.safetensors or *.bin)")
    return str(folder)


def _configuration(place: str, where: dict[str, str], *, standard: bool) -> Any:
    import transformers

    if standard and place in STANDARD:  # a hub that does not answer would be asked for half a minute
        return getattr(transformers, STANDARD[place])()
    return transformers.AutoConfig.from_pretrained(place, **where)


def weights(kind: Any, place: str, where: dict[str, str]) -> nn.Module:
    """Loads a network of a transformers class in fp32.

    Raises:
        ModelError: If weights are missing, which transformers would draw at random.
    """
    net, report = kind.from_pretrained(place, output_loading_info=True, dtype=torch.float32, **where)
    if report["missing_keys"]:
        raise ModelError(
            f"the weights of model '{place}' lack {len(report['missing_keys'])} tensors that {kind.__name__} needs, "
            f"such as '{min(report['missing_keys'])}'"
        )
    loaded: nn.Module = net
    return loaded


def _tokenizer(name: str, place: str, where: dict[str, str]) -> Any:
    import transformers

    try:
        return transformers.AutoTokenizer.from_pretrained(place, **where)
    except Exception as error:  # tokenizers and transformers share no base class of errors
        if not name.startswith(LOCAL):
            raise
        raise ModelError(
            f"the tokenizer of model '{name}' cannot be read (are the tokenizer's files missing?): {first_line(error)}"
        ) from error


def _family(name: str, kind: str) -> tuple[str, type[TransformersModel]]:
    if kind not in FAMILIES:
        raise ModelError(f"model.name: '{name}' is of type '{kind}'; known types: {', '.join(FAMILIES)}")
    return FAMILIES[kind]


def _unreadable(name: str, error: Exception) -> str:
    if name.startswith(LOCAL):
        return f"model '{name}' cannot be read: {first_line(error)}"
    return (
        f"model '{name}' cannot be downloaded or read (is the Hugging Face hub reachable? A folder is named "
        f"'{LOCAL}PATH'): {first_line(error)}"
    )


def _roles(tower: TowerName) -> RoleMap:
    return CLIP_ROLES if tower == "vision" else replace(CLIP_ROLES, block=r"text_model\.encoder\.layers\.(\d+)")
