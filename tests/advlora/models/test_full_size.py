"""Full-size models with random weights: one forward and backward pass through an adapter. Minutes."""

from __future__ import annotations

import pytest
import torch

from advlora.adapters import AdaptedModel, adapt
from advlora.config import LoraAdapter
from advlora.models import VisionLanguageModel
from advlora.models.attention import split_attention

pytestmark = pytest.mark.slow


def adapted(model: VisionLanguageModel) -> AdaptedModel:
    return adapt(model, LoraAdapter(rank=8), 0)


def check_step(trained: AdaptedModel, loss: torch.Tensor) -> None:
    loss.backward()
    gradients = [parameter.grad for parameter in trained.parameters()]
    assert all(gradient is not None and bool(gradient.isfinite().all()) for gradient in gradients)
    assert trained.trainable_fraction <= 0.03


def test_vit_b_32_of_open_clip() -> None:
    import open_clip

    from advlora.models.open_clip import OpenClipModel

    clip = open_clip.create_model("ViT-B-32")
    split_attention(clip.visual)
    settings = {
        "model_cfg": open_clip.get_model_config("ViT-B-32"),
        "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3},
    }
    model = OpenClipModel(clip, open_clip.get_tokenizer("ViT-B-32"), settings)
    images = torch.rand(2, 3, 224, 224)
    before = model.encode_images(images)
    trained = adapted(model)
    assert len(trained.layers) == 72
    features = model.encode_images(images)
    torch.testing.assert_close(features, before, atol=1e-4, rtol=1e-3)
    check_step(trained, features.square().mean())


def test_blip_base_with_matching_head() -> None:
    from transformers import BlipConfig, BlipForImageTextRetrieval, CLIPImageProcessor

    from advlora.models.transformers import Blip

    class Words:
        def get_vocab(self):
            return {}

        def __call__(self, captions, **_):
            ids = torch.randint(5, 1000, (len(captions), 12), generator=torch.Generator().manual_seed(0))
            return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    net = BlipForImageTextRetrieval(BlipConfig())  # the base architecture: 12 + 12 layers, width 768, 384 pixels
    split_attention(net, multihead=False)
    model = Blip(net, Words(), CLIPImageProcessor())
    images = torch.rand(2, 3, model.image_size, model.image_size)
    before = model.score_pairs(images, ["a", "b"]).detach()
    trained = adapted(model)
    assert len(trained.layers) == 72
    scores = model.score_pairs(images, ["a", "b"])
    torch.testing.assert_close(scores, before, atol=1e-4, rtol=1e-3)
    check_step(trained, scores.square().mean())
