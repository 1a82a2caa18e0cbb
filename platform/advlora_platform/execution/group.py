"""The slot of trials with several workers: it owns one long-lived Ray Train group and passes trials on to it.

Starting a worker group costs half a minute, a trial often less. Tune reuses the slot for one trial after the other,
and the group stays, with model, data and k-means loaded, as long as trials come.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping
from typing import Any

import ray
from ray import tune

from advlora.config import ResourcesConfig
from advlora_platform.execution.group_worker import serve
from advlora_platform.execution.mailbox import Mailbox
from advlora_platform.execution.places import kill
from advlora_platform.execution.resources import per_worker
from advlora_platform.execution.work import Work
from advlora_platform.study.failures import overdue
from advlora_platform.study.folder import StudyFolder

POLL_SECONDS = 1.0
GOODBYE_SECONDS = 10.0
GROUP_FAILURES = 5
"""How often Ray Train replaces a worker group that died before it gives up, whatever the group did meanwhile."""


class GroupSlot(tune.Trainable):
    """Runs the trials that Tune assigns to it, one at a time."""

    def setup(
        self, config: dict[str, Any], work: Work, resources: ResourcesConfig, silences: Mapping[str, float]
    ) -> None:
        """Starts the worker group and passes the first trial on."""
        self._work, self._resources, self._silences = work, resources, silences
        self._error: BaseException | None = None
        self._mailbox = ray.remote(num_cpus=0, max_concurrency=1000)(Mailbox).remote()
        self._incoming: Any = None
        self._thread = threading.Thread(target=self._keep_group, daemon=True)
        self._thread.start()
        self._number = ray.get(self._mailbox.submit.remote(config))

    def step(self) -> dict[str, Any]:
        """Waits for the next report of the present trial.

        Raises:
            RuntimeError: If the worker group died for good.
        """
        while True:
            # Only now: to ask for the next message says that Tune wants the trial to go on after the last one.
            self._incoming = self._incoming or self._mailbox.next_message.remote()
            ready, _ = ray.wait([self._incoming], timeout=POLL_SECONDS)
            if ready:
                number, message = ray.get(self._incoming)
                self._incoming = None
                if number == self._number:
                    return dict(message.to_tune())
            elif self._error is not None:
                raise RuntimeError(f"the worker group died: {self._error}")
            else:
                self._watch()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Takes the next trial; whatever still runs of the last one is cancelled."""
        ray.get(self._mailbox.cancel.remote(self._number))
        self._number = ray.get(self._mailbox.submit.remote(new_config))
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Saves nothing: a trial's state lies in its own folder."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Loads nothing: the worker finds the trial's state."""

    def cleanup(self) -> None:
        """Lets the worker group end."""
        ray.get(self._mailbox.close.remote())
        self._thread.join(GOODBYE_SECONDS)

    def _watch(self) -> None:
        """Ends the try of a trial of which too little is heard. A worker that hangs hears nothing, so it is killed."""
        failure = overdue(ray.get(self._mailbox.silence.remote()), self._silences)
        if failure is not None:
            kill(ray.get(self._mailbox.places.remote()))
            ray.get(self._mailbox.give_up.remote(self._number, failure))

    def _keep_group(self) -> None:
        """Replaces a group that ended, as one does after a failed trial, many good ones or none, when it is needed."""
        try:
            while ray.get(self._mailbox.called.remote()):
                self._run_group()
        except BaseException as error:
            self._error = error

    def _run_group(self) -> None:
        """Has the mailbox served until Ray Train gives up, which ends the slot only if no group could serve at all.

        Failures of trials end groups too. They are counted trial by trial in the mailbox.
        """
        try:
            self._trainer().fit()
        except Exception:
            if not ray.get(self._mailbox.served.remote()):
                raise

    def _trainer(self) -> Any:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        wanted, folder = self._resources, StudyFolder(self._work.folder)
        gpu = wanted.gpus_per_worker > 0
        return TorchTrainer(
            serve,
            train_loop_config={"mailbox": self._mailbox, "work": self._work},
            torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=wanted.workers, use_gpu=gpu, resources_per_worker=per_worker(wanted)
            ),
            run_config=RunConfig(
                name=f"slot-{uuid.uuid4().hex[:12]}",
                storage_path=str(folder.ray),
                failure_config=FailureConfig(max_failures=GROUP_FAILURES),
            ),
        )
