"""A dashboard that answers what Ray's answers; `test_submission` asks the real one."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import ray

from advlora.errors import UserError
from advlora_platform.cluster.jobs import Cluster, Job

pytestmark = pytest.mark.unit
BASE = {"type": "SUBMISSION", "entrypoint": "python", "start_time": 1_000_000}
OURS = {"advlora.study": "parts", "advlora.out": "/mnt/parts"}
JOBS = [
    {**BASE, "submission_id": "parts-1", "status": "FAILED", "metadata": OURS, "driver_exit_code": 2},
    {**BASE, "submission_id": "parts-2", "status": "RUNNING", "metadata": OURS, "start_time": 2_000_000},
    {**BASE, "submission_id": "other", "status": "SUCCEEDED", "metadata": {}},
]


class Dashboard(BaseHTTPRequestHandler):
    refusal: tuple[int, str] | None = None

    def do_GET(self):
        if self.refusal is not None:
            self._send(*self.refusal)
        elif self.path == "/api/version":
            self._send(
                200, json.dumps({"version": "4", "ray_version": ray.__version__, "ray_commit": "", "session_name": ""})
            )
        elif self.path == "/api/jobs/":
            self._send(200, json.dumps(JOBS))
        else:
            found = [job for job in JOBS if self.path == f"/api/jobs/{job['submission_id']}"]
            self._send(*((200, json.dumps(found[0])) if found else (404, "does not exist")))

    def _send(self, code: int, text: str) -> None:
        self.send_response(code)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_): ...


@pytest.fixture
def dashboard(monkeypatch) -> Iterator[str]:
    for name in ("RAY_AUTH_MODE", "RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    server = HTTPServer(("127.0.0.1", 0), type("Own", (Dashboard,), {}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def address(server: HTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_port}"


def test_studies_are_told_from_other_jobs_and_the_newest_is_first(dashboard, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.9.8.7:6379")  # Ray's client would ask that one
    found = Cluster(address(dashboard)).studies()
    assert [(job.id, job.study, job.out, job.ended) for job in found] == [
        ("parts-2", "parts", "/mnt/parts", False),
        ("parts-1", "parts", "/mnt/parts", True),
    ]


def test_a_job_that_is_not_there_is_named_with_the_nearest(dashboard):
    cluster = Cluster(address(dashboard))
    assert cluster.job("parts-1").code == 2
    with pytest.raises(UserError, match=r"no job 'part-1' on http.*; did you mean 'parts-1'\?"):
        cluster.job("part-1")


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        ((401, "Missing authentication token"), "asks for a token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH"),
        ((403, "Invalid authentication token"), "refuses the token that it is given: set"),
        ((404, "nothing here"), "no job server at "),
    ],
)
def test_a_cluster_that_refuses_is_one_sentence(dashboard, refusal, said):
    dashboard.RequestHandlerClass.refusal = refusal
    with pytest.raises(UserError, match=said) as refused:
        Cluster(address(dashboard))
    assert len(refused.value.problems) == 1
    assert "\n" not in refused.value.problems[0]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("ray://head:10001", "not driven through Ray Client"),
        ("head:6379", "not that of a dashboard; an example is http://HEAD:8265"),
        ("http://ann:word@head:8265", "holds a password"),
        ("http://127.0.0.1:1", "Connection refused"),
    ],
)
def test_an_address_that_cannot_work_is_refused_at_once(wrong, said):
    with pytest.raises(UserError, match=said) as refused:
        Cluster(wrong)
    assert "word@" not in str(refused.value)


@pytest.mark.parametrize(
    ("status", "driver", "code"),
    [("SUCCEEDED", 0, 0), ("FAILED", 2, 2), ("FAILED", None, 1), ("FAILED", -9, 1), ("STOPPED", None, 143)],
)
def test_a_command_that_waits_ends_as_the_driver_did(status, driver, code):
    assert Job("a", "a", "/a", status, "", "", driver).code == code
