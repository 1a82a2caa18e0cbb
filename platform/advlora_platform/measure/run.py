"""`Evaluation`: one model, one split of one data set, one protocol."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from advlora.attacks import needs_surrogate
from advlora.config import DataConfig, EvaluationProtocol
from advlora.data import ImageTextSet, Manifest, check_data, load_manifest
from advlora.errors import ConfigError, ModelError, UserError
from advlora.evaluation.guards import GuardFinding, guard_metrics, run_guards, unreliable
from advlora.evaluation.outcomes import Outcomes, outcomes
from advlora.evaluation.retrieval import evaluate_retrieval
from advlora.evaluation.zero_shot import live_class_features
from advlora.identity import fingerprint
from advlora.metrics import Metric, epsilon_label
from advlora.models import VisionLanguageModel, load_model
from advlora.training.workbench import Workbench
from advlora_platform.export import provenance
from advlora_platform.measure.protocols import protocol_hash, read_protocol
from advlora_platform.measure.record import (
    WORST,
    DataIdentity,
    EvaluationRecord,
    Examples,
    GuardRecord,
    ModelIdentity,
)
from advlora_platform.measure.reference import load_subject, name_of, weights_hash
from advlora_platform.measure.subject import Subject


@dataclass(frozen=True)
class Evaluation:
    """What is to be measured; nothing has been computed yet.

    Attributes:
        subject: The model.
        data: Names the data set.
        split: `val` or `test`.
        protocol: The evaluation.
        protocol_name: What it is called.
    """

    subject: Subject
    data: DataConfig
    split: str
    protocol: EvaluationProtocol
    protocol_name: str

    @classmethod
    def prepare(
        cls, model: str, data: str, split: str, protocol: str, base: str | None = None, study: Path | None = None
    ) -> Evaluation:
        """Finds everything; see `load_subject` and `read_protocol`.

        Raises:
            UserError: If model, data set or protocol is unknown or unreadable, or they do not fit.
        """
        evaluation, config = read_protocol(protocol), DataConfig(name=data)
        if problems := check_data(config):
            raise UserError(problems)
        subject = load_subject(model, base, study)
        if subject.base is None and needs_surrogate(evaluation):
            raise ConfigError(
                f"protocol '{protocol}' attacks from the pretrained model, which '{model}' does not name; "
                "name it with --base NAME"
            )
        return cls(subject, config, split, evaluation, Path(protocol).stem)

    def measure(self) -> EvaluationRecord:
        """Measures everything that the protocol asks for.

        Raises:
            UserError: If the protocol does not fit the task, or the pretrained model of a transfer attack is missing.
        """
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        manifest, network = load_manifest(self.data), self.subject.network.to(device)
        weights, begin = weights_hash(network), time.perf_counter()
        images = Workbench().split(
            self.data, self.split, network.image_size, getattr(self.protocol.samples, self.split)
        )
        if manifest.task == "retrieval":
            found = self._retrieval(network, images, device)
        else:
            found = self._zero_shot(network, images, manifest, device)
        return EvaluationRecord(
            model=self._model(weights),
            data=self._examples(images, manifest),
            protocol_name=self.protocol_name,
            protocol=self.protocol.model_dump(mode="json"),
            protocol_hash=protocol_hash(self.protocol),
            protocol_text=self.protocol.describe(),
            curve=self._curve(found["metrics"]),
            seconds=time.perf_counter() - begin,
            provenance=provenance(),
            **found,
        )

    def _retrieval(self, network: VisionLanguageModel, images: ImageTextSet, device: torch.device) -> dict[str, Any]:
        metrics = evaluate_retrieval(network, images, self.protocol, split=self.split, curve=True, device=device)
        return {"metrics": metrics}

    def _zero_shot(
        self, network: VisionLanguageModel, images: ImageTextSet, manifest: Manifest, device: torch.device
    ) -> dict[str, Any]:
        classes = live_class_features(network.encode_texts, manifest).to(device)
        surrogate = self._surrogate(device)
        epsilons = (self.protocol.epsilon, *self.protocol.curve)
        results = outcomes(network, classes, images, self.protocol, epsilons, device=device, surrogate=surrogate)
        findings = self._guards(results, network, classes, images, surrogate, device)
        plain = results.record()
        worst = {epsilon_label(epsilon): right.double().mean().item() for epsilon, right in results.robust.items()}
        return {
            "metrics": results.metrics(self.split) | (guard_metrics(findings) if findings else {}),
            "accuracies": {name: rows | {WORST: worst[name]} for name, rows in plain["accuracies"].items()},
            "guards": tuple(GuardRecord(**vars(finding)) for finding in findings),
            "unreliable": unreliable(findings),
            "examples": Examples(clean=plain["clean"], robust=plain["robust"], attacks=plain["attacks"]),
        }

    def _guards(
        self,
        results: Outcomes,
        network: VisionLanguageModel,
        classes: Tensor,
        images: ImageTextSet,
        surrogate: VisionLanguageModel | None,
        device: torch.device,
    ) -> list[GuardFinding]:
        if not self.protocol.guards.enabled:
            return []
        merged = self.subject.merged
        return run_guards(
            network,
            classes,
            images,
            self.protocol,
            device=device,
            known=results,
            # The pretrained model attacking itself would be no transfer.
            surrogate=surrogate if self.subject.changed else None,
            merged=None if merged is None else merged.to(device),
        )

    def _surrogate(self, device: torch.device) -> VisionLanguageModel | None:
        """Loads the pretrained model where an attack follows its gradients, or a check, which may do without it."""
        base, needed = self.subject.base, needs_surrogate(self.protocol)
        if base is None or not (needed or (self.subject.changed and self.protocol.guards.enabled)):
            return None
        try:
            return load_model(base).to(device)
        except ModelError:
            if needed:
                raise
            return None

    def _curve(self, metrics: dict[str, float]) -> tuple[tuple[float, float], ...]:
        radii = sorted({self.protocol.epsilon, *self.protocol.curve})
        attacked = ((radius, metrics[str(Metric.robust(self.split, radius))]) for radius in radii)
        return ((0.0, metrics[str(Metric.clean(self.split))]), *attacked)

    def _model(self, weights: str) -> ModelIdentity:
        subject = self.subject
        base = None if subject.base is None else name_of(subject.base)
        return ModelIdentity(
            name=subject.name, kind=subject.kind, weights=weights, base=base, run=subject.run, trial_id=subject.trial_id
        )

    def _examples(self, images: ImageTextSet, manifest: Manifest) -> DataIdentity:
        examples = fingerprint(images.labels.tolist(), images.references)
        return DataIdentity(
            name=manifest.name, hash=manifest.hash, split=self.split, samples=len(images), examples=examples
        )
