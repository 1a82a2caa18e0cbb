"""Adversarial training, step by step: attack a batch, then update the trainable parameters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn

from advlora.adapters import AdaptedModel
from advlora.attacks import Batch, Epoch, attack
from advlora.config import TrainingAttackConfig, TrialConfig
from advlora.data import ImageTextSet
from advlora.distributed import Group
from advlora.errors import Diverged
from advlora.losses import Encoder, Loss, Step
from advlora.randomness import Streams, seed_of
from advlora.training.flops import counter
from advlora.training.optimiser import build_optimiser
from advlora.training.schedule import batches, learning_rate, steps_per_epoch

ADAPTER_DROPOUT = ".lora_dropout."


class Updates:
    """Trains an adapted model, one epoch at a time.

    All random numbers are named by seed, epoch and sample (dropout: step and process), so an epoch does not depend on
    what the process did before.
    """

    def __init__(
        self, adapted: AdaptedModel, loss: Loss, data: ImageTextSet, config: TrialConfig, group: Group
    ) -> None:
        """Takes a model that is in eval mode and on the device of training.

        The attack begins as the trial's own and is the one setting that may be replaced between epochs.
        """
        self.adapted, self.model, self.loss, self.data = adapted, adapted.model, loss, data
        self.config, self.group, self.device = config, group, adapted.model.logit_scale.device
        self.attack: TrainingAttackConfig = config.attack
        self.parameters = adapted.parameters()
        self.encoder = Encoder(adapted, config.precision == "bf16")
        self.shared = Epoch(config.seed, 0, group)
        self.per_epoch = steps_per_epoch(len(data), config.optimiser.batch_size)
        self.steps = config.optimiser.epochs * self.per_epoch
        adapted.schedule(self.steps)
        self.optimiser = build_optimiser(adapted.trained_parameters(), config.optimiser)
        self.dropouts = [
            module
            for name, module in self.model.named_modules()
            if ADAPTER_DROPOUT in name and isinstance(module, nn.Dropout)
        ]

    def run(self, epoch: int) -> float:
        """Runs through the training set once.

        Returns:
            Mean loss on attacked images, without the alignment penalty.

        Raises:
            Diverged: If a loss, a gradient or, in the end, an embedding is not finite.
        """
        settings, total = self.config.optimiser, 0.0
        self.loss.start_epoch(epoch)
        self.shared = Epoch(self.config.seed, epoch, self.group)
        for number, batch in enumerate(batches(len(self.data), settings.batch_size, self.config.seed, epoch)):
            self.optimiser.set_rate(learning_rate(epoch * self.per_epoch + number, self.steps, settings))
            total += self._step(batch, epoch, number) * len(batch)
        if not self._sound():
            raise Diverged(f"embeddings are not finite after epoch {epoch + 1}")
        return total / len(self.data)

    @torch.no_grad()
    def _sound(self) -> bool:
        """Whether the model still embeds an image; the loss of an epoch does not see what its last step did."""
        first = self.data.images[:1].to(self.device).float() / 255
        return bool(self.model.embed(first).isfinite().all())

    def state(self) -> dict[str, Any]:
        """Returns the optimiser's state as CPU copies."""
        copied: dict[str, Any] = _copied(self.optimiser.state_dict())
        return copied

    def load_state(self, state: dict[str, Any]) -> None:
        """Continues from `state`, which stays as it is."""
        self.optimiser.load_state_dict(_copied(state))  # torch would continue in the tensors of `state` themselves

    def _step(self, batch: Tensor, epoch: int, number: int) -> float:
        place = epoch * self.per_epoch + number
        step = self._share(batch)
        self.adapted.before_step(place / self.steps)
        images = self._attacked(step, epoch, number)
        self.optimiser.zero_grad(set_to_none=True)
        with self._dropout(epoch, number, "update"):  # the backward pass computes parts of the forward pass again
            loss, objective = self._objective(images, step)
            objective.backward()  # type: ignore[no-untyped-call]  # torch
        self.group.sum_gradients(self.parameters)
        mean, total = self.group.sum(torch.stack([loss.detach(), objective.detach()])).tolist()
        norm = float(nn.utils.clip_grad_norm_(self.parameters, self.config.optimiser.clip_norm))
        if not (isfinite(total) and isfinite(norm)):
            raise Diverged(f"loss {total:g} and gradient norm {norm:g} in epoch {epoch + 1}, step {number + 1}")
        self.optimiser.step()
        self.adapted.after_step(place)
        return float(mean)

    def flops(self) -> float:
        """Counts the floating-point operations of a step per image, text passes included; trains nothing.

        The step is that of the first samples, so that the number belongs to the configuration and not to its seed.
        """
        batch = torch.arange(min(len(self.data), self.config.optimiser.batch_size))
        with counter() as counted:
            step = self._share(batch)
            images = self._attacked(step, 0, 0)
            with self._dropout(0, 0, "update"):
                _, objective = self._objective(images, step)
                torch.autograd.grad(objective, self.parameters, allow_unused=True)
        total = torch.tensor(float(counted.get_total_flops()), dtype=torch.float64, device=self.device)
        return float(self.group.sum(total)) / len(batch)

    def _objective(self, images: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        """Returns this process's part of the batch's mean loss, and the same with the penalty, which is minimised."""
        self.loss.prepare(self.encoder, step, update=True)
        counted = len(self.group.share(step.batch))
        loss = self.loss.objective(self.encoder, images, step)[:counted].sum() / len(step.batch)
        penalty = self.adapted.penalty()
        return loss, loss if penalty is None else loss + penalty / self.group.world_size

    def _share(self, batch: Tensor) -> Step:
        share = self.group.share(batch)
        own = share if len(share) else batch[:1]  # models refuse an empty batch: this one does not count in the loss
        images = self.data.images[own].to(self.device).float() / 255
        return Step(images, own.to(self.device), batch.to(self.device))

    def _attacked(self, step: Step, epoch: int, number: int) -> Tensor:
        counted = len(self.group.share(step.batch))

        def loss(points: Tensor) -> Tensor:
            return self.loss.attacked(self.encoder, points, step)[:counted]

        with self._dropout(epoch, number, "texts"):
            self.loss.embed_texts(self.encoder, step)
        streams = Streams.of(self.config.seed, "attack", epoch, samples=step.samples)
        with self.adapted.frozen():
            self.loss.prepare(self.encoder, step, update=False)
            return attack(self.attack, Batch(loss, step.clean, streams, self.shared))

    @contextmanager
    def _dropout(self, epoch: int, number: int, purpose: str) -> Iterator[None]:
        """Switches the adapter's dropout on; the passes of the attack run without it."""
        if not self.dropouts:
            yield
            return
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(seed_of(self.config.seed, "dropout", purpose, epoch, number, self.group.rank))
            for dropout in self.dropouts:
                dropout.train()
            yield
            for dropout in self.dropouts:
                dropout.eval()


def _copied(tree: Any) -> Any:
    """Copies nested plain data and tensors to the CPU: the optimiser changes its own in place."""
    if isinstance(tree, Tensor):
        return tree.detach().cpu().clone()
    if isinstance(tree, dict):
        return {key: _copied(value) for key, value in tree.items()}
    return [_copied(value) for value in tree] if isinstance(tree, list) else tree
