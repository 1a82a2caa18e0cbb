"""`Examination`: everything that is measured on the adapted model of one trial."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from advlora.adapters import AdaptedModel
from advlora.adapters.export import merged
from advlora.attacks import needs_surrogate
from advlora.config import EvaluationProtocol, TrialConfig
from advlora.config.training_attacks import AdversarialConfig
from advlora.data import ImageTextSet, Manifest, load_manifest
from advlora.distributed import Group
from advlora.evaluation.backdoor import attack_success_rate
from advlora.evaluation.guards import GuardFinding, OverfittingFinding, check_overfitting, run_guards
from advlora.evaluation.outcomes import evaluate
from advlora.evaluation.retrieval import evaluate_retrieval
from advlora.evaluation.zero_shot import live_class_features

if TYPE_CHECKING:
    from advlora.models import VisionLanguageModel
    from advlora.training.workbench import Workbench


@dataclass(frozen=True)
class Evaluator:
    """A trial's model under its protocol. The task follows from the data set.

    Attributes:
        config: The trial.
        protocol: How it is evaluated.
        bench: Gives data, frozen features and the pretrained model.
        adapted: What is evaluated, on `device`.
        group: The processes that share the trial; all get the same results.
        device: Where this process computes.
    """

    config: TrialConfig
    protocol: EvaluationProtocol
    bench: Workbench
    adapted: AdaptedModel
    group: Group
    device: torch.device

    @cached_property
    def manifest(self) -> Manifest:
        """What the data set says of itself."""
        return load_manifest(self.config.data)

    @property
    def zero_shot(self) -> bool:
        """Whether images are compared with the texts of classes."""
        return self.manifest.task != "retrieval"

    def split(self, name: str, limit: int | None) -> ImageTextSet:
        """Returns the first samples of a split, at the model's size."""
        return self.bench.split(self.config.data, name, self.adapted.model.image_size, limit)

    def measure(self, split: str, curve: bool) -> dict[str, float]:
        """Returns accuracies or recalls by metric name, and how often a poisoned model follows its trigger.

        Args:
            split: `val` or `test`.
            curve: Whether the further epsilons of the protocol are measured too.
        """
        data = self.split(split, getattr(self.protocol.samples, split))
        shared = {"split": split, "curve": curve, "device": self.device, "group": self.group}
        if not self.zero_shot:
            return evaluate_retrieval(self.adapted.model, data, self.protocol, **shared)  # type: ignore[arg-type]
        surrogate = self._pretrained() if needs_surrogate(self.protocol) else None
        classes = self.class_features()
        metrics = evaluate(
            self.adapted.model,
            classes,
            data,
            self.protocol,
            surrogate=surrogate,
            **shared,  # type: ignore[arg-type]
        )
        return metrics | self._backdoor(split, classes, data)

    def guards(self) -> list[GuardFinding]:
        """Checks whether the robust accuracy can be trusted; every process does the same. Empty where it is not asked.

        Retrieval is not checked: the checks compare accuracies of single images.
        """
        if not (self.protocol.guards.enabled and self.zero_shot):
            return []
        return run_guards(
            self.adapted.model,
            self.class_features(),
            self.split("val", self.protocol.samples.val),
            self.protocol,
            device=self.device,
            # The pretrained model attacking itself would be no transfer.
            surrogate=self._pretrained() if self.adapted.trainable else None,
            merged=merged(self.adapted).to(self.device) if self.adapted.mergeable else None,
        )

    def overfitting(self, attack: AdversarialConfig) -> OverfittingFinding:
        """Compares the one-step attack of the training with PGD on held-out images."""
        data = self.split("val", attack.overfitting.samples)
        return check_overfitting(
            self.adapted.model, self.class_features(), data, attack, device=self.device, group=self.group
        )

    @torch.no_grad()
    def class_features(self) -> Tensor:
        """Returns the unit text features of the classes `(C, D)`; embedded anew where the text tower is trained."""
        if self.adapted.trains_text:
            return live_class_features(self.adapted.model.eval().encode_texts, self.manifest).to(self.device)
        return self.bench.class_features(self.config.model, self.config.data).to(self.device)

    def _pretrained(self) -> VisionLanguageModel:
        return self.bench.model(self.config.model).to(self.device)

    def _backdoor(self, split: str, classes: Tensor, data: ImageTextSet) -> dict[str, float]:
        poison = self.config.data.poison
        if poison.kind == "none":
            return {}
        rate = attack_success_rate(
            self.adapted.model,
            classes,
            data,
            poison,
            self.manifest,
            batch_size=self.protocol.batch_size,
            device=self.device,
            group=self.group,
        )
        return {f"{split}/attack_success_rate": rate}
