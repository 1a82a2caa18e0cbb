"""Study folders as a run leaves them, with made-up numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from advlora_platform.study import Ledger, StudyFolder, open_folder, trials_of
from advlora_platform.study.ablation import AblationStudy
from advlora_platform.study.environment import environment, save_environment
from advlora_platform.study.outcomes import save_outcomes
from tests.builders import TEST_ROBUST
from tests.platform.stories import accuracies


def run_made_up(study: AblationStudy, out: Path, sizes: Mapping[str, float] | None = None) -> StudyFolder:
    """Leaves what a run leaves: records, outcomes of 20 examples, environments.

    Args:
        study: Every seed gets one example more right than the one before.
        out: The folder.
        sizes: Arm -> share of trained parameters; also how many examples more it gets right, in percent.
    """
    folder, factory = open_folder(study, out, {"commit": "c0ffee"}), trials_of(study)
    for arm, values in study.arm_values.items():
        for seed in study.seeds:
            trial, share = factory.trial(arm, seed, values, "ablate"), (sizes or {}).get(arm, 0.03)
            right = torch.arange(20) < 10 + seed + 5 * share
            metrics = {**accuracies(float(right.float().mean())), "params/trainable_fraction": share}
            Ledger(folder).trial_started(trial)
            Ledger(folder).trial_finished(trial, metrics, False)
            save_outcomes(folder.trial(trial.id), {TEST_ROBUST: right})
            save_environment(folder.trial(trial.id), {**environment(torch.device("cpu")), "device": "Abacus"})
    return folder
