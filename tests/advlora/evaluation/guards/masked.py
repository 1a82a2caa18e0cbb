"""Models that only seem robust, each by another trick that hides its gradient or fools its evaluator."""

from __future__ import annotations

import torch
from torch import Tensor

from advlora.models import VisionLanguageModel


class Masked(VisionLanguageModel):
    """A model behind a trick; what it cannot do itself its `inner` model does."""

    encode_texts = save = vision = None

    def __init__(self, inner: VisionLanguageModel) -> None:
        super().__init__()
        self.inner, self.image_size, self.embed_dim = inner, inner.image_size, inner.embed_dim
        self.logit_scale = inner.logit_scale

    def encode_images(self, images: Tensor) -> Tensor:
        return self.inner.encode_images(images)


class QuantisedInputs(Masked):
    """Rounds pixels to 16 levels: the gradient is zero everywhere."""

    def encode_images(self, images: Tensor) -> Tensor:
        return super().encode_images((images * 15).round() / 15)


class SaturatedLogits(Masked):
    """Multiplies the logits until cross-entropy knows 0 and 1 only."""

    def __init__(self, inner: VisionLanguageModel) -> None:
        super().__init__(inner)
        self.logit_scale = inner.logit_scale * 1000


class StochasticForward(Masked):
    """Adds other noise in every pass."""

    def encode_images(self, images: Tensor) -> Tensor:
        return super().encode_images(images + 0.1 * torch.randn_like(images))


class DetachedEncoder(Masked):
    """Passes no gradient on."""

    def encode_images(self, images: Tensor) -> Tensor:
        return super().encode_images(images.detach())


class SteepPixels(Masked):
    """Sends every pixel through a staircase that is smooth, but flat almost everywhere."""

    def encode_images(self, images: Tensor) -> Tensor:
        steps = images * 15
        stair = steps.detach().floor() + torch.sigmoid(80 * (steps - steps.detach().floor() - 0.5))
        return super().encode_images(stair / 15)


class _Shattered(torch.autograd.Function):
    @staticmethod
    def forward(context, images):
        return images.clone()

    @staticmethod
    def backward(context, gradient):
        noise = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(0))
        return noise.to(gradient) * gradient.abs().mean()


class ShatteredGradients(Masked):
    """Gives a gradient of the usual size that points anywhere."""

    def encode_images(self, images: Tensor) -> Tensor:
        return super().encode_images(_Shattered.apply(images))


class _Backwards(torch.autograd.Function):
    @staticmethod
    def forward(context, images):
        return images.clone()

    @staticmethod
    def backward(context, gradient):
        return -gradient


class BackwardGradients(Masked):
    """Sends the attacker the wrong way."""

    def encode_images(self, images: Tensor) -> Tensor:
        return super().encode_images(_Backwards.apply(images))


class ConstantAnswer(Masked):
    """Says nearly the same of every image: what differs between images is drowned by what they share."""

    def __init__(self, inner: VisionLanguageModel, towards: Tensor) -> None:
        super().__init__(inner)
        self.towards = towards

    def encode_images(self, images: Tensor) -> Tensor:
        return super().encode_images(images) + 100 * self.towards
