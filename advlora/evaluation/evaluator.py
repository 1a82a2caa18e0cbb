"""`Evaluator`: everything that is measured on a model, for a trial and for `advlora evaluate` alike."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from advlora.attacks import Classifier, needs_surrogate
from advlora.config import DataConfig, EvaluationProtocol, ModelConfig
from advlora.config.training_attacks import AdversarialConfig
from advlora.data import ImageTextSet, Manifest, load_manifest
from advlora.data.poisoning import target_class
from advlora.distributed import SOLO, Group
from advlora.errors import ModelError
from advlora.evaluation.backdoor import attack_success_rate
from advlora.evaluation.classification import Classification
from advlora.evaluation.guards import (
    GuardFinding,
    OverfittingFinding,
    check_overfitting,
    run_guards,
    run_retrieval_guards,
    same_as_merged,
    similarity,
)
from advlora.evaluation.outcomes import Outcomes
from advlora.evaluation.retrieval import Retrieval
from advlora.evaluation.zero_shot import ZeroShotClassifier, live_class_features
from advlora.metrics import ATTACK_SUCCESS, Metric
from advlora.models import Preprocessing, VisionLanguageModel
from advlora.numerics import computing

CPU = torch.device("cpu")


class Source(Protocol):
    """Where an evaluation gets what is not the evaluated model. A workbench is one."""

    def split(
        self, config: DataConfig, name: str, preprocessing: Preprocessing, limit: int | None = None
    ) -> ImageTextSet:
        """Returns the first samples of a split."""

    def model(self, config: ModelConfig) -> VisionLanguageModel:
        """Returns a copy of a pretrained model, on the CPU."""

    def class_features(self, model: ModelConfig, data: DataConfig, device: torch.device, group: Group) -> Tensor:
        """Returns the unit text features of the classes by a pretrained model, `(C, D)`, which a group computes."""


@dataclass(frozen=True)
class Measurement:
    """What was measured on a split.

    Attributes:
        metrics: Numbers in [0, 1] by metric name.
        examples: What the metrics were reduced from: name -> a value per image, `(N,)`, or per caption, `(T,)`; on the
            CPU. Right or wrong of a classifier, ranks of a retrieval.
        outcomes: What became of every example by attack; None for retrieval, which does not tell attacks apart.
    """

    metrics: dict[str, float]
    examples: dict[str, Tensor]
    outcomes: Outcomes | None = None


@dataclass(frozen=True)
class Evaluator:
    """A model under a protocol, in true float32 and deterministic. The task follows from the data set.

    Attributes:
        model: What is evaluated, on `device`.
        data: The data set.
        protocol: How it is evaluated.
        source: Gives splits, and the pretrained model where it is needed.
        base: The pretrained model that `model` started from, or that it is; None if unknown.
        changed: Whether `model` is another model than its base.
        own_texts: Whether `model` embeds the texts of the classes itself; if not, it shares the text tower of its base.
        frozen: Inside, the model is the same function with nothing trainable, and its adapter merged into the weights.
        merges: Whether there is an adapter that `frozen` merges.
        group: The processes that share the work; all get the same results.
        device: Where this process computes.
    """

    model: VisionLanguageModel
    data: DataConfig
    protocol: EvaluationProtocol
    source: Source
    base: ModelConfig | None = None
    changed: bool = True
    own_texts: bool = True
    frozen: Callable[[], AbstractContextManager[None]] = nullcontext
    merges: bool = False
    group: Group = SOLO
    device: torch.device = CPU

    @cached_property
    def manifest(self) -> Manifest:
        """What the data set says about itself."""
        return load_manifest(self.data)

    @property
    def zero_shot(self) -> bool:
        """Whether images are compared with the texts of classes."""
        return self.manifest.task != "retrieval"

    def split(self, name: str, limit: int | None) -> ImageTextSet:
        """Returns the first samples of a split, prepared as the model's library does."""
        return self.source.split(self.data, name, self.model.preprocessing, limit)

    def examples(self, split: str) -> ImageTextSet:
        """Returns the samples of a split on which the protocol measures."""
        return self.split(split, getattr(self.protocol.samples, split))

    @computing()
    def measure(self, split: str, *, curve: bool) -> Measurement:
        """Measures accuracies or recalls, and how often a poisoned model follows its trigger.

        Args:
            split: `val` or `test`.
            curve: Whether the further epsilons of the protocol are measured too.

        Raises:
            ConfigError: If the protocol does not fit the task.
            ModelError: If an attack needs the pretrained model, and it is missing.
            NotFinite: If features, logits or gradients are not finite.
        """
        data = self.examples(split)
        with self.frozen():
            if not self.zero_shot:
                rankings = Retrieval(self.model, data, self.protocol, self.group).rankings(curve)
                return Measurement(rankings.metrics(split), rankings.by_example(split))
            classifier, epsilons = self._classifier(), (self.protocol.epsilon, *(self.protocol.curve if curve else ()))
            outcomes = self._classification(classifier, self.group).outcomes(data, epsilons)
            metrics = outcomes.metrics(split) | outcomes.mean_per_class(split, data.labels)
            metrics |= self._backdoor(split, classifier, data)
            return Measurement(metrics, outcomes.by_example(split), outcomes)

    @computing()
    def guards(self, split: str = "val", known: Outcomes | None = None) -> list[GuardFinding]:
        """Checks whether the robust accuracy can be trusted; every process does the same.

        Args:
            split: Whose first examples are used.
            known: What `measure` found on this split. Without it, the few examples are measured again, for their
                numbers would be rounded differently in batches of another size.

        Returns:
            One finding per check; none where the protocol does not ask for them. Retrieval is always measured again:
            the few examples are ranked among themselves.
        """
        if not self.protocol.guards.enabled:
            return []
        data = self.examples(split)
        with self.frozen():
            findings = self._classified(data, known) if self.zero_shot else self._ranked(data)
        return findings + ([self._merging(data.first(self.protocol.guards.samples))] if self.merges else [])

    @computing()
    def overfitting(self, attack: AdversarialConfig) -> OverfittingFinding:
        """Compares the one-step attack of the training with PGD on held-out images."""
        data = self.split("val", attack.overfitting.samples)
        with self.frozen():
            return check_overfitting(self._classifier(), data, attack, self.group)

    def _classified(self, data: ImageTextSet, known: Outcomes | None) -> list[GuardFinding]:
        classifier = self._classifier()
        if known is None:
            few = data.first(self.protocol.guards.samples)
            known = self._classification(classifier, SOLO).outcomes(few, (self.protocol.epsilon,))
        surrogate = self._transfer_surrogate(classifier)
        return run_guards(classifier, data, self.protocol, known, surrogate=surrogate)

    def _ranked(self, data: ImageTextSet) -> list[GuardFinding]:
        return run_retrieval_guards(self.model, data, self.protocol)

    def _merging(self, data: ImageTextSet) -> GuardFinding:
        """Compares the model as it was trained, adapter beside the weights, with the weights that are measured."""

        def merged(images: Tensor) -> Tensor:
            with self.frozen():
                return self._logits(data)(images)

        return same_as_merged(self._logits(data), merged, data.images.to(self.device).float() / 255)

    def _logits(self, data: ImageTextSet) -> Classifier:
        """Returns what the task compares: images with the texts of classes, or with the captions of the data."""
        return self._classifier() if self.zero_shot else similarity(self.model, data, self.protocol)

    @torch.no_grad()
    def _classifier(self) -> ZeroShotClassifier:
        """Returns the classifier as it is now: training may have moved the text tower since the last call."""
        if self.own_texts:
            features = live_class_features(self.model.eval().encode_texts, self.manifest)
        else:
            assert self.base is not None, "a model that shares its text tower has a base"
            features = self.source.class_features(self.base, self.data, self.device, self.group)
        return ZeroShotClassifier(self.model, features.to(self.device))

    def _classification(self, classifier: ZeroShotClassifier, group: Group) -> Classification:
        surrogate = self._pretrained(classifier) if needs_surrogate(self.protocol) else None
        return Classification(classifier, self.protocol, surrogate, group)

    def _pretrained(self, classifier: ZeroShotClassifier) -> ZeroShotClassifier | None:
        """Loads the pretrained model, for as long as it is used: it takes as much memory as the evaluated one."""
        return None if self.base is None else self._with(classifier, self.source.model(self.base))

    def _transfer_surrogate(self, classifier: ZeroShotClassifier) -> ZeroShotClassifier | None:
        """Returns the pretrained model for a check that may do without it."""
        if not self.changed:
            return None  # the pretrained model attacking itself would be no transfer
        try:
            return self._pretrained(classifier)
        except ModelError:
            return None

    def _with(self, classifier: ZeroShotClassifier, model: VisionLanguageModel) -> ZeroShotClassifier:
        """Returns another model that classifies by the same class features."""
        return ZeroShotClassifier(model.to(self.device), classifier.class_features)

    def _backdoor(self, split: str, classifier: ZeroShotClassifier, data: ImageTextSet) -> dict[str, float]:
        poison = self.data.poison
        if poison.kind == "none":
            return {}
        target = target_class(poison, self.manifest)
        rate = attack_success_rate(
            classifier, data, poison, target, batch_size=self.protocol.batch_size, group=self.group
        )
        return {str(Metric(split, ATTACK_SUCCESS)): rate}
