"""`fine_tune`: one trial as a generator of epoch reports. It knows nothing about who runs it.

A training that continues from the state of any epoch gives the numbers of an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from advlora.adapters import AdaptedModel, adapt
from advlora.config import EvaluationProtocol, TrialConfig
from advlora.config.training_attacks import AdversarialConfig
from advlora.data.transfer import NamedSet
from advlora.distributed import SOLO, Group
from advlora.evaluation.evaluator import Evaluator, Measurement
from advlora.evaluation.guards import guard_metrics, unreliable
from advlora.evaluation.transfer import measure_transfer
from advlora.identity import fingerprint
from advlora.losses import build_loss
from advlora.metrics import ADAPTED, OVERFITTING, OVERFITTING_GAP, TRAINABLE, TRAINABLE_FRACTION, TRAINING_LOSS
from advlora.numerics import computing
from advlora.training.cost import Meter, step_forwards
from advlora.training.flops import forward_flops
from advlora.training.progress import Progress
from advlora.training.updates import Updates
from advlora.training.workbench import Workbench

CPU = torch.device("cpu")
TRAINING_METRICS = tuple(str(metric) for metric in (TRAINING_LOSS, *ADAPTED, OVERFITTING_GAP, OVERFITTING))


@dataclass(frozen=True)
class EpochReport:
    """What is known after an epoch.

    Attributes:
        epoch: Number of epochs that are finished; 0 where nothing is trained. A training that was stopped because it
            overfitted ends with a second report of the previous epoch.
        epochs: Number of epochs in all; 0 where nothing is trained.
        metrics: By name. Those on `val` only if it was evaluated after this epoch.
        state: Continues from here; CPU tensors and plain data, fit for `torch.load(weights_only=True)`.
        final: Whether this is the last report.
        unreliable: Why the robust accuracy of the final model cannot be trusted; empty where nothing was found, or
            nothing was looked for.
        examples: What the metrics of a trial that is measured on `test` were reduced from, with the last report; see
            `Measurement`. Empty otherwise.
    """

    epoch: int
    epochs: int
    metrics: dict[str, float]
    state: dict[str, Any]
    final: bool
    unreliable: str = ""
    examples: dict[str, Tensor] = field(default_factory=dict)


def fine_tune(
    config: TrialConfig,
    protocol: EvaluationProtocol,
    *,
    bench: Workbench,
    group: Group = SOLO,
    device: torch.device = CPU,
    state: dict[str, Any] | None = None,
    test: bool = False,
    guarded: bool = True,
    transfer: Sequence[NamedSet] = (),
) -> Iterator[EpochReport]:
    """Adapts the pretrained model to the attack and evaluates it.

    Args:
        config: The trial.
        protocol: The evaluation.
        bench: Gives model, data and frozen features.
        group: The processes that share the trial; all of them iterate in step and get the same metrics.
        device: Where this process computes.
        state: State from an earlier report of this trial; training resumes after that epoch.
        test: Whether the final model is also measured on `test`.
        guarded: Whether the final model is checked by the protocol's guards.
        transfer: Further data sets on which the final model is measured.

    Yields:
        A report after every epoch; a single one for adapter kind `none`, or if `state` is that of the last epoch.

    Raises:
        Diverged: If a loss or gradient is not finite.
        DataError: If a shard is missing or damaged.
        ModelError: If the model or its weights are missing.
    """
    torch.set_num_threads(config.resources.cpus_per_worker)
    trial = _Trial(config, protocol, bench, group, device, state, transfer)
    if trial.progress.finished:
        yield trial.report(test, guarded)
        return
    training = _Training(trial, bench, state)
    while not trial.progress.finished:
        training.run_epoch()
        yield trial.report(test, guarded, training.optimiser())


def restore(config: TrialConfig, bench: Workbench, state: dict[str, Any] | None = None) -> AdaptedModel:
    """Returns the adapted model of a trial, on the CPU, as it was at a report, or before the first step.

    Raises:
        ValueError: If the state belongs to another configuration.
    """
    adapted = adapt(
        bench.model(config.model),
        config.adapter,
        config.seed,
        bench.cache,
        keep_originals=config.loss.needs_originals,
    )
    if state is not None:
        adapted.load_state(state["adapter"])
    adapted.model.eval()
    return adapted


class _Trial:
    """The adapted model of a trial and all that is reported about it."""

    def __init__(
        self,
        config: TrialConfig,
        protocol: EvaluationProtocol,
        bench: Workbench,
        group: Group,
        device: torch.device,
        state: dict[str, Any] | None,
        transfer: Sequence[NamedSet],
    ) -> None:
        self.config, self.transfer = config, transfer
        self.adapted = restore(config, bench, state)
        self.adapted.model.to(device)
        self.progress = Progress.of(config, state)
        self.meter = Meter(device, None if state is None else state["cost"])
        self.evaluator = Evaluator(
            model=self.adapted.model,
            data=config.data,
            protocol=protocol,
            source=bench,
            base=config.model,
            changed=self.adapted.trainable > 0,
            own_texts=self.adapted.trains_text,
            frozen=self.adapted.frozen,
            merges=self.adapted.mergeable,
            group=group,
            device=device,
        )

    def report(self, test: bool, guarded: bool, optimiser: dict[str, Any] | None = None) -> EpochReport:
        measured = self._evaluation(test)
        metrics = self._sizes_and_costs() | {name: value for each in measured for name, value in each.metrics.items()}
        findings = self.evaluator.guards() if guarded and self.progress.finished else []
        metrics |= guard_metrics(findings) if findings else {}
        self.progress = self.progress.measured(metrics)
        return EpochReport(
            epoch=self.progress.epoch,
            epochs=self.progress.epochs,
            metrics=metrics,
            state=self._state(optimiser or {}),
            final=self.progress.finished,
            unreliable=unreliable(findings) or "",
            examples=_examples(measured) if test and self.progress.finished else {},
        )

    def _sizes_and_costs(self) -> dict[str, float]:
        known = self.progress.metrics
        training = {name: known[name] for name in TRAINING_METRICS if name in known}
        sizes = {
            str(TRAINABLE): float(self.adapted.trainable),
            str(TRAINABLE_FRACTION): self.adapted.trainable_fraction,
        }
        return training | self.meter.metrics() | sizes

    def _evaluation(self, test: bool) -> list[Measurement]:
        """Measures `val` when it is due; at the end, with the curve, `val` and, where wanted, `test` and other sets."""
        interval, measure = self.evaluator.protocol.interval, self.evaluator.measure
        if self.progress.finished:
            found = [measure(split, curve=True) for split in (("val", "test") if test else ("val",))]
            return [*found, measure_transfer(self.evaluator, self.transfer)] if self.transfer else found
        return [measure("val", curve=False)] if interval and self.progress.epoch % interval == 0 else []

    def _state(self, optimiser: dict[str, Any]) -> dict[str, Any]:
        progress, cost = self.progress.state(), self.meter.state()
        return {"adapter": self.adapted.state(), "optimiser": optimiser, "cost": cost, **progress}


def _examples(measured: list[Measurement]) -> dict[str, Tensor]:
    return {name: row for each in measured for name, row in each.examples.items()}


class _Training:
    """What a trial needs to train on: its updates, whose attack may be replaced, and the watch over them."""

    def __init__(self, trial: _Trial, bench: Workbench, state: dict[str, Any] | None) -> None:
        config, group = trial.config, trial.evaluator.group
        data = trial.evaluator.split("train", config.data.train_samples)
        loss = build_loss(config, bench, data, trial.adapted, group)
        self.trial, self.bench, self.updates = trial, bench, Updates(trial.adapted, loss, data, config, group)
        if trial.progress.switched:
            self.updates.attack = config.attack.switched()
        if state is not None:
            self.updates.load_state(state["optimiser"])
        trial.meter.rate = trial.meter.rate or self._flops()  # a state remembers what was counted

    def run_epoch(self) -> None:
        trial, attack, epoch = self.trial, self.updates.attack, self.trial.progress.epoch
        watched = attack.watched if trial.evaluator.zero_shot else None  # the watch needs class texts
        stoppable = watched is not None and watched.overfitting.action == "stop"
        before = _Checkpoint(trial.progress, trial.adapted.state()) if stoppable else None
        with trial.meter.running(), computing(trial.config.precision, deterministic=trial.config.deterministic):
            loss = self.updates.run(epoch)
        images, once = len(self.updates.data), trial.config.loss.once_forwards if epoch == 0 else 0
        trial.meter.forwards += images * (step_forwards(trial.config, attack) + once)
        trial.meter.flops += images * (trial.meter.rate + (once * self._forward_flops() if once else 0))
        trial.progress = trial.progress.trained(loss).measured(trial.adapted.metrics())
        if watched is not None:
            self._watch(watched, before)

    def _flops(self) -> float:
        """Counts the floating-point operations of a step per image, once per configuration and attack in force."""
        config = self.trial.config
        settings = config.model_dump(mode="json", include={"model", "data", "adapter", "loss", "precision"})
        settings["attack"] = self.updates.attack.model_dump(mode="json")
        sizes = config.optimiser.batch_size, config.resources.workers
        with computing(config.precision, deterministic=config.deterministic):
            return self.bench.once(fingerprint("step", settings, sizes), self.updates.flops)

    def _forward_flops(self) -> float:
        """Counts F, once per model and kind of image."""
        model, images = self.trial.config.model, self.updates.data.images
        key = fingerprint("F", model.model_dump(mode="json"), list(images.shape[1:]))
        return self.bench.once(key, lambda: forward_flops(self.bench.model(model), images))

    def optimiser(self) -> dict[str, Any]:
        """Returns the optimiser's part of the state, which is the larger one.

        The last state only has to give the trained model back.
        """
        return {} if self.trial.progress.finished else self.updates.state()

    def _watch(self, attack: AdversarialConfig, before: _Checkpoint | None) -> None:
        """Looks for catastrophic overfitting and acts on it; `before` is what to return to."""
        trial = self.trial
        finding = trial.evaluator.overfitting(attack)
        if finding.overfitted and before is not None:
            # The meter is not set back: what the discarded epoch cost still counts.
            trial.adapted.load_state(before.adapter)
            trial.progress = replace(before.progress, stopped=True)
        elif finding.overfitted and attack.overfitting.action == "switch":
            self.updates.attack = attack.switched()
            trial.meter.rate = self._flops()
            trial.progress = replace(trial.progress, switched=True)
        trial.progress = trial.progress.measured(finding.metrics())


@dataclass(frozen=True)
class _Checkpoint:
    """A trial before an epoch that may be discarded."""

    progress: Progress
    adapter: dict[str, Any]
