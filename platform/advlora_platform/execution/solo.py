"""The slot of trials with one worker: it keeps one warm process, and asks it for one message after the other.

Tune holds the resources of both. Whatever ends the slot ends the process, and leaves nothing behind.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import ray
from ray import tune
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from advlora.config import ResourcesConfig
from advlora_platform.execution.places import Place, here, kill
from advlora_platform.execution.tries import DIED, Tries
from advlora_platform.execution.work import TRIALS_PER_PROCESS, Work
from advlora_platform.study.failures import class_of, classify, overdue
from advlora_platform.study.messages import Failed, Message, Reported

POLL_SECONDS = 1.0
WORKER_BUNDLE = 1
"""Of the two bundles that Tune reserves for a slot, the one with the resources of the worker."""


class SoloSlot(tune.Trainable):
    """Runs the trials that Tune assigns to it, one at a time."""

    def setup(
        self, config: dict[str, Any], work: Work, resources: ResourcesConfig, silences: Mapping[str, float]
    ) -> None:
        """Takes the first trial; its worker starts with the first step."""
        self._work, self._resources, self._silences = work, resources, silences
        self._process: _Process | None = None
        self.reset_config(config)

    def step(self) -> dict[str, Any]:
        """Waits for the next message of the present trial, which does not go on before it is asked for."""
        while True:
            message = self._next_message()
            if isinstance(message, Failed):
                ended = self._failed(message)
                if ended is None:
                    continue
                message = ended
            elif isinstance(message, Reported):
                self._tries.completed(message.epoch)
            return dict(message.to_tune())

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Takes the next trial; the last one is over, for its worker rests between two messages."""
        self._config, self._tries, self._begun = new_config, Tries(), False
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Saves nothing: a trial's state lies in its own folder."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Loads nothing: the worker finds the trial's state."""

    def cleanup(self) -> None:
        """Ends the worker."""
        self._replace()

    def _next_message(self) -> Message:
        if not self._begun and self._process is not None and self._process.trials >= TRIALS_PER_PROCESS:
            self._replace()
        process = self._process = self._process or _Process(self._work, self._resources)
        if not self._begun:
            process.begin(self._config)
            self._begun = True
        return process.next_message(self._silences)

    def _failed(self, message: Failed) -> Failed | None:
        """Returns how the trial ends; None where it is tried again."""
        assert self._process is not None, "it failed"
        met, warm = class_of(message.failure), self._process.trials > 1
        if met.retried or not met.shared:
            self._replace()  # its remains may be at fault
        self._begun = False
        ended = self._tries.failed(message.failure, warm)
        return None if ended is None else Failed(ended)

    def _replace(self) -> None:
        """Ends the worker; the next message comes from a new one."""
        if self._process is not None:
            self._process.end()
        self._process = None


class _Process:
    """The process of a slot, as the slot sees it."""

    def __init__(self, work: Work, resources: ResourcesConfig) -> None:
        gpus = resources.gpus_per_worker
        self._actor = (
            ray.remote(SoloWorker)
            .options(
                num_cpus=resources.cpus_per_worker,
                num_gpus=gpus,
                scheduling_strategy=PlacementGroupSchedulingStrategy(
                    ray.util.get_current_placement_group(), placement_group_bundle_index=WORKER_BUNDLE
                ),
            )
            .remote(work, gpus > 0)
        )
        self._place = self._actor.place.remote()
        self.trials = 0

    def begin(self, config: dict[str, Any]) -> None:
        self.trials += 1
        self._actor.begin.remote(config)

    def next_message(self, silences: Mapping[str, float]) -> Message:
        """Waits for it; a process that dies or says nothing for too long has failed."""
        coming, heard = self._actor.next_message.remote(), time.monotonic()
        while not ray.wait([coming], timeout=POLL_SECONDS)[0]:
            if not ray.wait([self._place], timeout=0)[0]:
                heard = time.monotonic()  # it still starts
            failure = overdue(time.monotonic() - heard, silences)
            if failure is not None:
                place: Place = ray.get(self._place)
                kill([place])  # Ray would ask it to exit, which a process that hangs does not do
                return Failed(failure)
        try:
            message: Message = ray.get(coming)
        except (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError):
            return Failed(DIED)
        return message

    def end(self) -> None:
        ray.kill(self._actor)


class SoloWorker:
    """What runs in the process: an actor that rests between two messages."""

    def __init__(self, work: Work, gpu: bool) -> None:
        import torch

        from advlora.training.workbench import Workbench
        from advlora_platform.study.folder import StudyFolder

        self._work, self._bench = work, Workbench(StudyFolder(work.folder).cache)
        self._device = torch.device("cuda" if gpu else "cpu")
        self._messages: Iterator[Message] = iter(())

    def place(self) -> Place:
        """Returns where it runs."""
        return here()

    def begin(self, config: dict[str, Any]) -> None:
        """Turns to another trial."""
        self._drop()
        self._messages = self._trial(config)

    def next_message(self) -> Message:
        """Runs the trial up to its next message."""
        try:
            message = next(self._messages)
        except Exception as error:
            message = Failed(classify(error))
        if isinstance(message, Failed) or (isinstance(message, Reported) and message.final):
            self._drop()
        return message

    def _trial(self, config: dict[str, Any]) -> Iterator[Message]:
        from advlora.distributed import SOLO
        from advlora_platform.execution.trial_run import messages

        yield from messages(self._work, self._work.factory.from_tune(config), self._bench, SOLO, self._device)

    def _drop(self) -> None:
        from advlora_platform.execution.trial_run import free_memory

        self._messages = iter(())
        free_memory(self._device)
