"""`fine_tune`: one trial as a generator of epoch reports. It knows nothing of who runs it.

A training that continues from the state of any epoch gives the numbers of an uninterrupted one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from advlora.adapters import AdaptedModel, adapt
from advlora.config import EvaluationProtocol, TrialConfig
from advlora.distributed import SOLO, Group
from advlora.evaluation.guards import guard_metrics, switched, unreliable, watched
from advlora.evaluation.trial import Evaluator
from advlora.losses import build_loss
from advlora.training.cost import Meter, once_forwards, step_forwards
from advlora.training.updates import Updates
from advlora.training.workbench import Workbench

CPU = torch.device("cpu")
TRAINING_METRICS = ("train/loss", "guard/overfitting_gap", "guard/overfitting")


@dataclass(frozen=True)
class EpochReport:
    """What is known after an epoch.

    Attributes:
        epoch: Number of epochs that are finished; 0 where nothing is trained. A training that was stopped because it
            overfitted ends with a second report of the epoch before.
        epochs: Number of epochs in all; 0 where nothing is trained.
        metrics: By name. Those on `val` only if it was evaluated after this epoch.
        state: Continues from here; CPU tensors and plain data, fit for `torch.load(weights_only=True)`.
        final: Whether this is the last report.
        unreliable: Why the robust accuracy of the final model cannot be trusted; empty where nothing was found, or
            nothing was looked for.
    """

    epoch: int
    epochs: int
    metrics: dict[str, float]
    state: dict[str, Any]
    final: bool
    unreliable: str = ""


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
) -> Iterator[EpochReport]:
    """Adapts the pretrained model to the attack and evaluates it.

    Args:
        config: The trial.
        protocol: The evaluation.
        bench: Gives model, data and frozen features.
        group: The processes that share the trial; all of them iterate in step and get the same metrics.
        device: Where this process computes.
        state: Of an earlier report of the same trial; training goes on after its epoch.
        test: Whether the final model is also measured on `test`.
        guarded: Whether the final model is checked by the protocol's guards.

    Yields:
        A report after every epoch; a single one for adapter kind `none`, or if `state` is that of the last epoch.

    Raises:
        Diverged: If a loss or gradient is not finite.
        DataError: If a shard is missing or damaged.
        ModelError: If the model or its weights are missing.
    """
    _settle_torch(config)
    trial = _Trial(config, protocol, bench, group, device, state)
    if trial.finished:
        yield trial.report(test, guarded)
    while not trial.finished:
        trial.train_epoch()
        yield trial.report(test, guarded)


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
        keep_originals=config.loss.kind == "pmg_aft",
    )
    if state is not None:
        adapted.load_state(state["adapter"])
    adapted.model.eval()
    return adapted


def _settle_torch(config: TrialConfig) -> None:
    """Makes torch deterministic and gives it its share of the cores."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    torch.set_num_threads(config.resources.cpus_per_worker)


class _Trial:
    """A trial between two epochs."""

    def __init__(
        self,
        config: TrialConfig,
        protocol: EvaluationProtocol,
        bench: Workbench,
        group: Group,
        device: torch.device,
        state: dict[str, Any] | None,
    ) -> None:
        self.config, self.protocol, self.bench, self.group, self.device = config, protocol, bench, group, device
        self.adapted = restore(config, bench, state)
        self.adapted.model.to(device)
        self.evaluation = Evaluator(config, protocol, bench, self.adapted, group, device)
        self.epochs = config.optimiser.epochs if config.adapter.trains else 0
        self.epoch: int = 0 if state is None else state["epoch"]
        self.latest: dict[str, float] = {} if state is None else dict(state["metrics"])
        self.meter = Meter(device, None if state is None else state["cost"])
        self.stopped: bool = False if state is None else state["stopped"]
        self.switched: bool = False if state is None else state["switched"]
        if self.switched:
            self.config = _after_switch(config)
        self.updates = None if self.finished else self._updates(state)

    @property
    def finished(self) -> bool:
        return self.stopped or self.epoch >= self.epochs

    def train_epoch(self) -> None:
        assert self.updates is not None, "nothing is trained"
        attack = self.config.attack
        before = self._state() if watched(attack) and attack.overfitting.action == "stop" else None
        with self.meter.running():
            loss = self.updates.run(self.epoch)
        images, passes = len(self.updates.data), step_forwards(self.config)
        self.meter.forwards += images * (passes + (once_forwards(self.config) if self.epoch == 0 else 0))
        self.latest["train/loss"] = loss
        self.epoch += 1
        self._watch(before)

    def report(self, test: bool, guarded: bool) -> EpochReport:
        metrics = self._sizes_and_costs() | self._evaluation(test)
        findings = self.evaluation.guards() if guarded and self.finished else []
        metrics |= guard_metrics(findings) if findings else {}
        self.latest |= metrics
        reason = unreliable(findings) or ""
        return EpochReport(self.epoch, self.epochs, metrics, self._state(), self.finished, reason)

    def _watch(self, before: dict[str, Any] | None) -> None:
        """Looks for catastrophic overfitting and acts on it; `before` is the state to go back to."""
        self.latest.pop("guard/overfitting_gap", None)
        attack = self.config.attack
        if not (watched(attack) and self.evaluation.zero_shot):  # the watch needs class texts
            return
        finding = self.evaluation.overfitting(attack)
        if finding.overfitted and before is not None:
            self._return_to(before)
        elif finding.overfitted and attack.overfitting.action == "switch":
            assert self.updates is not None, "nothing is trained"
            self.switched = True
            self.config = self.updates.config = _after_switch(self.config)
        self.latest |= finding.metrics()

    def _return_to(self, state: dict[str, Any]) -> None:
        """Ends the training as it was at a state; what the lost epoch cost still counts."""
        assert self.updates is not None, "nothing is trained"
        self.adapted.load_state(state["adapter"])
        self.updates.load_state(state["optimiser"])
        self.epoch, self.latest, self.stopped = state["epoch"], dict(state["metrics"]), True

    def _updates(self, state: dict[str, Any] | None) -> Updates:
        data = self.evaluation.split("train", self.config.data.train_samples)
        loss = build_loss(self.config, self.bench, data, self.adapted, self.group)
        updates = Updates(self.adapted, loss, data, self.config, self.group)
        if state is not None:
            updates.load_state(state["optimiser"])
        return updates

    def _sizes_and_costs(self) -> dict[str, float]:
        training = {name: self.latest[name] for name in TRAINING_METRICS if name in self.latest}
        sizes = {
            "params/trainable": float(self.adapted.trainable),
            "params/trainable_fraction": self.adapted.trainable_fraction,
        }
        return training | self.meter.metrics() | sizes

    def _evaluation(self, test: bool) -> dict[str, float]:
        """Measures `val` when it is due, and at the end, with the curve, `val` and, if wanted, `test`."""
        interval = self.protocol.interval
        measure = self.evaluation.measure
        if self.finished:
            return measure("val", curve=True) | (measure("test", curve=True) if test else {})
        return measure("val", curve=False) if interval and self.epoch % interval == 0 else {}

    def _state(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "adapter": self.adapted.state(),
            # The last state only has to give the trained model back, and the optimiser's part is the larger one.
            "optimiser": {} if self.finished or self.updates is None else self.updates.state(),
            "cost": self.meter.state(),
            "metrics": dict(self.latest),
            "stopped": self.stopped,
            "switched": self.switched,
        }


def _after_switch(config: TrialConfig) -> TrialConfig:
    return config.model_copy(update={"attack": switched(config.attack)})
