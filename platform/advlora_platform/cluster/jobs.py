"""Studies as jobs of a cluster: submit, look, follow, stop; all over the HTTP address of its dashboard."""

from __future__ import annotations

import os
import shlex
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from advlora.errors import UserError, did_you_mean, first_line
from advlora_platform.cluster.environment import entrypoint
from advlora_platform.cluster.package import STUDY, packed
from advlora_platform.execution.address import WITH_TOKEN, check_token, expect_answer, refuse_ray_client
from advlora_platform.study.library import VERBS
from advlora_platform.study.spec import Study

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

PROGRAM = "python -m advlora_platform"
STUDY_KEY, OUT_KEY = "advlora.study", "advlora.out"
"""Keys of a job's metadata."""
OVERRIDING = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
"""Variables that Ray's client prefers to the address that it is given."""
END_SECONDS = 30.0
"""Seconds until the status of a job must follow the end of its log."""
STOPPED = 143


@dataclass(frozen=True)
class Job:
    """A study as a job.

    Attributes:
        id: Names it on its cluster.
        study: The name of the study.
        out: The study folder.
        status: As Ray says it: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED.
        message: More about the status.
        started: When, on this machine's clock; empty before.
        exit_code: Of the driver, once it has ended.
    """

    id: str
    study: str
    out: str
    status: str
    message: str
    started: str
    exit_code: int | None

    @classmethod
    def of(cls, details: JobDetails) -> Job:
        """Reads what Ray knows of a job."""
        metadata = details.metadata or {}
        started = datetime.fromtimestamp(details.start_time / 1000).isoformat(" ", "seconds")
        return cls(
            details.submission_id or "",
            metadata.get(STUDY_KEY, ""),
            metadata.get(OUT_KEY, ""),
            details.status.value,
            details.message or "",
            started if details.start_time else "",
            details.driver_exit_code,
        )

    @property
    def ended(self) -> bool:
        """Whether it will not change any more."""
        return self.status in {"SUCCEEDED", "FAILED", "STOPPED"}

    @property
    def code(self) -> int:
        """The exit code of a command that waits for the job: that of the driver."""
        if self.status == "STOPPED":
            return STOPPED
        return 0 if self.status == "SUCCEEDED" else max(1, self.exit_code or 1)


class Cluster:
    """A cluster that takes jobs."""

    def __init__(self, address: str) -> None:
        """Connects.

        Raises:
            UserError: If the address is none of a dashboard, nobody answers there, or the cluster asks for a token
                that this process does not have.
        """
        self.address = address
        _check(address)
        check_token()
        self._client = _client(address)

    def submit(self, study: Study, out: PurePosixPath, variables: Mapping[str, str]) -> str:
        """Sends code and study, starts the study, and returns the id of the job.

        Args:
            study: The validated study.
            out: The study folder, at the path by which every node sees it.
            variables: The environment of the job.
        """
        words = f"{PROGRAM} {VERBS[study.kind]} {STUDY} --out {shlex.quote(str(out))}"
        metadata = {STUDY_KEY: study.name, OUT_KEY: str(out)}
        with packed(study) as folder:
            return self.start(entrypoint(words, out), folder, variables, metadata, study.name)

    def start(
        self, command: str, folder: Path, variables: Mapping[str, str], metadata: Mapping[str, str], name: str
    ) -> str:
        """Starts a command in the copy of a folder and returns the id of the job."""
        environment = {"working_dir": str(folder), "env_vars": dict(variables)}
        with _explained(self.address):
            job: str = self._client.submit_job(
                entrypoint=command,
                submission_id=f"{name}-{uuid.uuid4().hex[:8]}",
                runtime_env=environment,
                metadata=dict(metadata),
            )
        return job

    def studies(self) -> list[Job]:
        """Returns the jobs that are studies, the newest first."""
        with _explained(self.address):
            jobs = [Job.of(details) for details in self._client.list_jobs() if STUDY_KEY in (details.metadata or {})]
        return sorted(jobs, key=lambda job: job.started, reverse=True)

    def job(self, name: str) -> Job:
        """Returns a job.

        Raises:
            UserError: If there is none of that id.
        """
        try:
            return Job.of(self._client.get_job_info(name))
        except RuntimeError as error:
            if "404" not in str(error):
                raise UserError(f"the cluster at {self.address} does not answer: {first_line(error)}") from error
            known = [job.id for job in self.studies()]
            raise UserError(f"no job '{name}' on {self.address}{did_you_mean(name, known)}") from None

    def stop(self, name: str) -> bool:
        """Lets the driver of a job end as after Ctrl-C; returns whether it was running.

        Raises:
            UserError: If there is no such job.
        """
        self.job(name)
        with _explained(self.address):
            stopped: bool = self._client.stop_job(name)
        return stopped

    def log(self, name: str) -> AsyncIterator[str]:
        """Yields what a job prints, until it ends."""
        lines: AsyncIterator[str] = self._client.tail_job_logs(name)
        return lines

    def text(self, name: str) -> str:
        """Returns what a job has printed."""
        with _explained(self.address):
            return str(self._client.get_job_logs(name))

    def result(self, name: str, patience: float = END_SECONDS) -> Job:
        """Returns a job whose log has ended, as soon as its status says so too."""
        end = time.monotonic() + patience
        while not (job := self.job(name)).ended and time.monotonic() < end:
            time.sleep(0.5)
        return job


def _check(address: str) -> None:
    refuse_ray_client(address, "--address")
    target = urlsplit(address)
    if target.scheme not in {"http", "https"} or not target.hostname:
        raise UserError(f"--address '{address}' is not that of a dashboard; an example is http://HEAD:8265")
    if target.username or target.password:
        raise UserError(f"--address {target.scheme}://***@{target.hostname} holds a password; {WITH_TOKEN}")
    expect_answer(target, address, "--address")


def _client(address: str) -> JobSubmissionClient:
    from ray.job_submission import JobSubmissionClient

    hidden = {name: os.environ.pop(name) for name in OVERRIDING if name in os.environ}
    try:
        with _explained(address):
            return JobSubmissionClient(address)
    finally:
        os.environ.update(hidden)


@contextmanager
def _explained(address: str) -> Iterator[None]:
    """Turns what Ray's client raises into one sentence."""
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError as error:
        refused = "refuses the token that it is given" if "invalid" in str(error) else "asks for a token"
        raise UserError(f"the cluster at {address} {refused}: {WITH_TOKEN}") from None
    except (RuntimeError, OSError) as error:  # those of requests are OSErrors
        raise UserError(f"no job server at {address}: {first_line(error)}") from error
