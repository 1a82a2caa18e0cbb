"""A trial: one resolved configuration that is run once and never again.

Its id is the hash of everything that its numbers depend on: configuration, protocol, data, a local model's weights and
the method's code. Keys that change no number, such as memory hints, are not a part of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, Literal

from advlora.config import DataConfig, EvaluationProtocol, TrialConfig, parse, vary
from advlora.data import load_manifest
from advlora.data.transfer import NamedSet
from advlora.errors import UserError
from advlora.identity import code_version, fingerprint, local_content
from advlora_platform.study.roots import Roots, identity

Phase = Literal["ablate", "tune", "search", "confirm"]
REPORTED = ("ablate", "confirm")
"""Phases whose final model is also measured on `test`; the others select."""

TUNE_KEYS = ("trial", "arm", "seed", "phase")
"""Keys of a Tune configuration that are not parameters of the trial."""


def resolve(base: Mapping[str, Any], values: Mapping[str, Any]) -> TrialConfig:
    """Lays dotted values over a base configuration.

    Raises:
        ConfigError: If a value is not allowed in the resolved configuration.
    """
    return parse(TrialConfig, vary(TrialConfig, base, values))


@dataclass(frozen=True)
class Trial:
    """One trial of a study."""

    id: str
    arm: str
    seed: int
    phase: Phase
    values: dict[str, Any]
    """What varies: dotted key -> value."""
    config: TrialConfig

    @property
    def test(self) -> bool:
        """Whether the final model is also measured on `test`: only where it is reported, never where it selects."""
        return self.phase in REPORTED

    @property
    def guarded(self) -> bool:
        """Whether the final model is checked for numbers that cannot be trusted.

        Not while an arm is tuned: what that chooses is checked in the arm's own trials.
        """
        return self.phase != "tune"

    @property
    def name(self) -> str:
        """A name for people: arm and seed, and the id where arm and seed do not tell trials apart."""
        return f"{self.arm}/seed {self.seed}" if self.phase in REPORTED else f"{self.arm}/{self.id[:8]}"


@dataclass(frozen=True)
class TrialFactory:
    """Resolves what a searcher suggests into trials. Plain data, so that it travels to workers."""

    base: dict[str, Any]
    protocol: EvaluationProtocol
    data_hash: str
    """Of the base's data set."""
    confirming: EvaluationProtocol | None = None
    """The evaluation in phase `confirm`."""
    transfer: tuple[NamedSet, ...] = ()
    """Further data sets on which trials that are reported are measured."""
    transfer_hash: str = ""
    """Of their names and their content."""
    roots: Roots = field(default_factory=Roots.here)
    """Where relative paths begin: where the factory was made, which is at the driver."""

    def protocol_of(self, phase: Phase) -> EvaluationProtocol:
        """Returns the evaluation of the trials of a phase."""
        return self.confirming if phase == "confirm" and self.confirming is not None else self.protocol

    def trial(self, arm: str, seed: int, values: Mapping[str, Any], phase: Phase) -> Trial:
        """Builds the trial of an arm.

        Raises:
            ConfigError: If a value is not allowed in the resolved configuration.
        """
        config = resolve(self.base, {"seed": seed, **values})
        found, protocol = self.roots.trial(config), self.protocol_of(phase)
        purpose = (phase in REPORTED, phase != "tune")
        known = (identity(config, found), protocol.model_dump(), self._data_hash(found.data), code_version(), purpose)
        further = (local_content(found.model), self.transfer_hash if phase in REPORTED else "")
        return Trial(fingerprint(*known, *filter(None, further)), arm, seed, phase, dict(values), config)

    def transfer_of(self, trial: Trial) -> tuple[NamedSet, ...]:
        """Returns the further data sets on which a trial is measured: none where it selects."""
        return self.transfer if trial.test else ()

    def located(self, trial: Trial) -> tuple[TrialConfig, EvaluationProtocol]:
        """Returns configuration and evaluation of a trial with absolute paths, for whichever process runs it."""
        return self.roots.trial(trial.config), self.roots.protocol(self.protocol_of(trial.phase))

    def _data_hash(self, data: DataConfig) -> str:
        """Returns what identifies the content of a data set, which may be another one than the base's."""
        base = self._base_data
        return self.data_hash if (data.name, data.layout) == (base.name, base.layout) else _content(data)

    @cached_property
    def _base_data(self) -> DataConfig:
        return self.roots.trial(resolve(self.base, {})).data

    def from_tune(self, config: Mapping[str, Any]) -> Trial:
        """Builds the trial of a flat Tune configuration: id, arm, seed, phase and the values that vary.

        Raises:
            UserError: If the trial has another id here than where it was written: the method's code differs.
        """
        values = {key: value for key, value in config.items() if key not in TUNE_KEYS}
        trial = self.trial(config["arm"], config["seed"], values, config["phase"])
        if trial.id != config["trial"]:
            raise UserError(
                "the code of the package 'advlora' in this process, or a model that is read from a folder, is not the "
                "one the study was started with; have the same on every node, and do not change it while a study runs"
            )
        return trial


@lru_cache(maxsize=64)
def _content(data: DataConfig) -> str:
    return load_manifest(data).hash


def to_tune(trial: Trial) -> dict[str, Any]:
    """Writes a trial as the flat configuration that Tune carries."""
    return {"trial": trial.id, "arm": trial.arm, "seed": trial.seed, "phase": trial.phase, **trial.values}
