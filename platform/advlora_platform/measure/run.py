"""`Evaluation`: one model, one split of one data set, one protocol."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from advlora.attacks import needs_surrogate
from advlora.check import check_transfer
from advlora.config import DataConfig, EvaluationProtocol, TransferConfig
from advlora.data import check_data
from advlora.data.transfer import NamedSet, transfer_sets
from advlora.errors import ConfigError, UserError
from advlora.evaluation.evaluator import Evaluator
from advlora.evaluation.guards import guard_metrics, unreliable
from advlora.evaluation.outcomes import Outcomes
from advlora.evaluation.transfer import measure_transfer, transfer_evaluator
from advlora.identity import fingerprint
from advlora.metrics import Metric, epsilon_label
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
        transfer: Further data sets, measured on `test` by the same protocol.
    """

    subject: Subject
    data: DataConfig
    split: str
    protocol: EvaluationProtocol
    protocol_name: str
    transfer: tuple[NamedSet, ...] = ()

    @classmethod
    def prepare(
        cls,
        model: str,
        data: str | DataConfig,
        split: str,
        protocol: str,
        base: str | None = None,
        study: Path | None = None,
        transfer: TransferConfig | None = None,
    ) -> Evaluation:
        """Finds everything; see `load_subject` and `read_protocol`.

        Raises:
            UserError: If model, a data set or the protocol is unknown or unreadable, or they do not fit.
        """
        evaluation, config = read_protocol(protocol), DataConfig(name=data) if isinstance(data, str) else data
        further = [] if transfer is None else check_transfer(transfer, evaluation)
        if problems := [*check_data(config, (split,)), *further]:
            raise UserError(problems)
        subject = load_subject(model, base, study)
        if subject.base is None and needs_surrogate(evaluation):
            raise ConfigError(
                f"protocol '{protocol}' attacks from the pretrained model, which '{model}' does not name; "
                "name it with --base NAME"
            )
        sets = () if transfer is None else transfer_sets(transfer)
        return cls(subject, config, split, evaluation, Path(protocol).stem, sets)

    def measure(self) -> EvaluationRecord:
        """Measures everything that the protocol asks for.

        Raises:
            UserError: If the protocol does not fit the task, or the pretrained model of a transfer attack is missing.
        """
        evaluator = self._evaluator()
        weights, begin = weights_hash(evaluator.model), time.perf_counter()
        measured = evaluator.measure(self.split, curve=True)
        findings = evaluator.guards(self.split, measured.outcomes)
        metrics = measured.metrics | measure_transfer(evaluator, self.transfer).metrics
        return EvaluationRecord(
            model=self._model(weights),
            data=_identity(evaluator, self.split),
            transfer={each.name: _identity(*transfer_evaluator(evaluator, each)) for each in self.transfer},
            protocol_name=self.protocol_name,
            protocol=self.protocol.model_dump(mode="json"),
            protocol_hash=protocol_hash(self.protocol),
            protocol_text=self.protocol.describe(len(evaluator.manifest.classes)),
            metrics=metrics | (guard_metrics(findings) if findings else {}),
            curve=self._curve(measured.metrics),
            guards=tuple(GuardRecord(**vars(finding)) for finding in findings),
            unreliable=unreliable(findings),
            seconds=time.perf_counter() - begin,
            provenance=provenance(),
            **({} if measured.outcomes is None else _by_example(measured.outcomes)),
        )

    def _evaluator(self) -> Evaluator:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return Evaluator(
            model=self.subject.network.to(device),
            data=self.data,
            protocol=self.protocol,
            source=Workbench(),
            base=self.subject.base,
            changed=self.subject.changed,
            frozen=self.subject.frozen,
            merges=self.subject.merges,
            device=device,
        )

    def _curve(self, metrics: dict[str, float]) -> tuple[tuple[float, float], ...]:
        epsilons = sorted({self.protocol.epsilon, *self.protocol.curve})
        attacked = ((epsilon, metrics[str(Metric.robust(self.split, epsilon))]) for epsilon in epsilons)
        return ((0.0, metrics[str(Metric.clean(self.split))]), *attacked)

    def _model(self, weights: str) -> ModelIdentity:
        subject = self.subject
        base = None if subject.base is None else name_of(subject.base)
        return ModelIdentity(
            name=subject.name, kind=subject.kind, weights=weights, base=base, run=subject.run, trial_id=subject.trial_id
        )


def _identity(evaluator: Evaluator, split: str) -> DataIdentity:
    images, manifest = evaluator.examples(split), evaluator.manifest
    labels, count = images.labels.tolist(), len(manifest.classes)
    return DataIdentity(
        name=manifest.name,
        hash=manifest.hash,
        split=split,
        samples=len(images),
        examples=fingerprint(labels, images.references),
        asked=getattr(evaluator.protocol.samples, split),
        classes=count or None,
        classes_seen=len(set(labels)) if count else None,
    )


def _by_example(outcomes: Outcomes) -> dict[str, Any]:
    """Returns what a record says about single examples, and about single attacks."""
    plain = outcomes.record()
    worst = {epsilon_label(epsilon): right.double().mean().item() for epsilon, right in outcomes.robust.items()}
    return {
        "accuracies": {name: rows | {WORST: worst[name]} for name, rows in plain["accuracies"].items()},
        "examples": Examples(clean=plain["clean"], robust=plain["robust"], attacks=plain["attacks"]),
    }
