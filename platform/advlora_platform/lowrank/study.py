"""The study that is run where none is given: the two full fine-tunings of `low_rank`, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable

from advlora.config import TrialConfig, spelled
from advlora_platform.study.ablation import AblationStudy
from advlora_platform.study.library import load_study

NAME = "lowrank"


def two_arms(overrides: Iterable[str] = ()) -> AblationStudy:
    """Returns adversarial and clean full fine-tuning as a study of its own; their trials are those of `low_rank`.

    Raises:
        ConfigError: With every problem of the overrides.
    """
    study = load_study("low_rank", "ablation", overrides)
    kinds = {name: spelled(TrialConfig, values).get("adapter.kind") for name, values in study.arms.items()}
    arms = {name: values for name, values in study.arms.items() if kinds[name] == "full"}
    description = "Adversarial and clean full fine-tuning, whose changes of weights are measured."
    return study.model_copy(update={"name": NAME, "description": description, "arms": arms})
