"""One trial, from its last state to its final report: the same path for a single worker and for one of a group."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import torch

from advlora.distributed import Group
from advlora.training.trainer import fine_tune
from advlora.training.workbench import Workbench
from advlora_platform.execution.states import load_state, save_state
from advlora_platform.execution.work import Work
from advlora_platform.study.environment import environment, save_environment
from advlora_platform.study.folder import StudyFolder
from advlora_platform.study.messages import Reported, Started
from advlora_platform.study.outcomes import save_outcomes
from advlora_platform.study.trials import Trial


def messages(
    work: Work, trial: Trial, bench: Workbench, group: Group, device: torch.device
) -> Iterator[Started | Reported]:
    """Runs a trial on from its last state; an epoch lies on disk before it is told.

    Every worker of the trial gets the same messages.
    """
    work.mark.check()
    folder = StudyFolder(work.folder).trial(trial.id)
    config, protocol = work.factory.located(trial)
    state = load_state(folder)
    yield Started()
    for report in fine_tune(
        config,
        protocol,
        bench=bench,
        group=group,
        device=device,
        state=state,
        test=trial.test,
        guarded=trial.guarded,
        transfer=work.factory.transfer_of(trial),
    ):
        if group.rank == 0:
            save_state(folder, report.state)
            save_outcomes(folder, report.examples)
            save_environment(folder, environment(device))
        yield Reported(report.epoch, report.metrics, report.final, report.unreliable)


def free_memory(device: torch.device) -> None:
    """Returns the memory of the last trial, which the next one and neighbours on a shared GPU may need."""
    if device.type == "cuda":
        gc.collect()  # a trial's graph and model may lie in cycles
        torch.cuda.empty_cache()
