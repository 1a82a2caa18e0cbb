"""What is not finite ends a measurement: a comparison with NaN is false, and would count as an answer."""

from __future__ import annotations

import torch
from torch import Tensor

from advlora.attacks.case import Classifier
from advlora.errors import NotFinite


def finite(values: Tensor, what: str) -> Tensor:
    """Returns values of any shape as they are.

    Args:
        values: What a model gave.
        what: Names it in the plural, such as `logits`.

    Raises:
        NotFinite: If one is infinite or not a number.
    """
    if not bool(values.isfinite().all()):
        raise _refusal(what)
    return values


class Watched:
    """A function of images that notes whether all it gave, and all gradients sent back through it, were finite.

    It keeps the notes on the device: an attack that asks hundreds of times waits for the answer once.
    """

    def __init__(self, inner: Classifier, what: str = "logits") -> None:
        """Takes the function, and what it gives, in the plural."""
        self.inner, self.what = inner, what
        self._values: list[Tensor] = []
        self._gradients: list[Tensor] = []

    def __call__(self, images: Tensor) -> Tensor:
        """Passes images on; `(B, 3, H, W)` gives `(B, C)`."""
        found = self.inner(images)
        self._values.append(found.detach().isfinite().all())
        if images.requires_grad:
            images.register_hook(self._note_gradient)  # type: ignore[no-untyped-call]  # torch
        return found

    def check(self) -> None:
        """Ends the measurement where it has to.

        Raises:
            NotFinite: If anything was infinite or not a number.
        """
        for notes, what in ((self._values, self.what), (self._gradients, "gradients with respect to the images")):
            if notes and not bool(torch.stack(notes).all()):
                raise _refusal(what)
            notes.clear()

    def _note_gradient(self, gradient: Tensor) -> None:
        self._gradients.append(gradient.detach().isfinite().all())


def _refusal(what: str) -> NotFinite:
    return NotFinite(f"the model's {what} are not finite (NaN or infinite), so that nothing can be measured on it")
