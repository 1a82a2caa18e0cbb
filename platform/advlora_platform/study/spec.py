"""What every kind of study has: a base configuration, the protocol that evaluates its trials, and what judges them.

An *ablation* (`study.ablation`) answers "which part earns its cost?" with arms, seeds and intervals. A *sweep*
(`study.sweep`) searches a space with Optuna. Code that serves both asks a study; it does not ask which kind it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import PrivateAttr, field_validator

from advlora.config import EvaluationProtocol, TransferConfig, TrialConfig, leaves, parse
from advlora.config.base import Count, Section, Text
from advlora.data.transfer import set_names
from advlora.metrics import Metric
from advlora_platform.study.constraints import Constraint, parse_constraint
from advlora_platform.study.keeping import Keep
from advlora_platform.study.trials import resolve


def short_metrics(protocol: EvaluationProtocol) -> dict[str, Metric]:
    """Returns the short names of what selects: `robust` and `clean`, both on `val`."""
    return {"robust": Metric.robust("val", protocol.epsilon), "clean": Metric.clean("val")}


class Study(Section):
    """The content of a study's YAML; each kind adds what it varies."""

    kind: str
    """What kind of study the file holds; it decides what else can be written."""
    name: Text
    """Name of the study, of its folder and of its MLflow experiment."""
    description: Text = ""
    """A sentence for readers."""
    base: dict[str, Any] = {}
    """The trial configuration that everything is measured around (a partial `TrialConfig`)."""
    protocol: EvaluationProtocol = EvaluationProtocol()
    """How every trial is evaluated: the name of a shipped protocol, or its keys."""
    transfer: TransferConfig | None = None
    """Further data sets on which every trial that is reported is measured, on `test`; null for none."""
    constraints: tuple[str, ...] = ()
    """What the recommended configuration must keep, such as `params/trainable_fraction <= 0.1` or `clean >= 80 %`."""
    max_concurrent: Count | None = None
    """Upper bound of trials at once; None means as many as the cluster holds."""
    keep: Keep = "last"
    """Checkpoints that stay when the study has ended: `last`, those of trials that ran to their last epoch, from which
    `evaluate` and `lowrank` take the trained model; `best`, that of the recommended trial alone; `all`, also those of
    trials that failed or were stopped early."""

    _trial: TrialConfig = PrivateAttr()

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
            raise ValueError(f"{name!r} is not allowed; use letters, digits, '.', '_' and '-', at most 64")
        return name

    @field_validator("constraints")
    @classmethod
    def _readable(cls, constraints: tuple[str, ...]) -> tuple[str, ...]:
        for text in constraints:
            parse_constraint(text, {})
        return constraints

    def model_post_init(self, context: Any) -> None:
        """Parses the base, so that no study with an impossible one exists.

        Raises:
            ConfigError: With every problem of the base.
        """
        self._trial = parse(TrialConfig, self.base, where="base.")

    @property
    def trial(self) -> TrialConfig:
        """The base, completed with defaults; its seed is replaced by that of each trial."""
        return self._trial

    def trial_with(self, values: Mapping[str, Any]) -> TrialConfig:
        """Returns the base with dotted values laid over it.

        Raises:
            ConfigError: If a value is not allowed.
        """
        return resolve(self.base, values)

    def objectives(self, protocol: EvaluationProtocol | None = None) -> tuple[Metric, ...]:
        """Returns the metrics that trials are judged by; the first one selects.

        Args:
            protocol: The evaluation that measures them; None for the study's own.
        """
        return (Metric.robust("val", (protocol or self.protocol).epsilon),)

    def limits(self, protocol: EvaluationProtocol | None = None) -> tuple[Constraint, ...]:
        """Returns the constraints on what is recommended.

        Args:
            protocol: The evaluation that measures it; None for the study's own.
        """
        return tuple(parse_constraint(text, short_metrics(protocol or self.protocol)) for text in self.constraints)

    @property
    def content(self) -> dict[str, Any]:
        """What makes it this study and no other: dotted key -> value.

        A folder holds one content, to which more may be added. Numbers of seeds and trials, budgets and what only the
        analysis reads are no part of it.
        """
        return {
            "kind": self.kind,
            "name": self.name,
            **dict(leaves(self.trial.identity())),
            **dict(leaves(self.protocol.model_dump(), "protocol.")),
            "transfer.sets": [] if self.transfer is None else [each.model_dump() for each in self.transfer.sets],
        }

    @property
    def transfer_names(self) -> tuple[str, ...]:
        """Names of the further data sets, as in the names of their metrics."""
        return () if self.transfer is None else set_names(self.transfer)

    @property
    def protocols(self) -> dict[str, EvaluationProtocol]:
        """Every evaluation of the study; a key is what precedes those of the protocol in messages."""
        return {"": self.protocol}

    @property
    def reported_protocol(self) -> EvaluationProtocol:
        """The evaluation behind the numbers that are reported."""
        return self.protocol

    @property
    def arm_values(self) -> dict[str, dict[str, Any]]:
        """Arm -> the values that define it; empty where arms follow from results."""
        return {}
