"""`advlora ui`: a real server on the store of a study, and what a browser shows of it."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import aiohttp
import pytest

from advlora_platform.study.ledger import Ledger
from advlora_platform.tracking import MlflowTracker
from tests.builders import ablation, trial
from tests.platform.tracking.tracking_help import folder, free_port, play, summary, wait_for

pytestmark = pytest.mark.integration

ADVLORA = [sys.executable, "-c", "from advlora_platform.cli import main; main()"]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def studied(migrated, tmp_path_factory):
    """A finished study with its store in a folder, and that folder."""
    place = tmp_path_factory.mktemp("studied")
    shutil.copy(migrated, place / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        study = ablation()
        opened = folder(place / "runs" / "parts", study)
        opened.study.write_text("")
        tracker = MlflowTracker(study, opened)
        for (arm, seed), robust in {("plain", 0): 0.3, ("plain", 1): 0.4, ("wide", 0): 0.6, ("wide", 1): 0.5}.items():
            play([Ledger(opened), tracker], trial(arm, seed), robust)
        tracker.conclude(summary(study, opened, tracker), [])
    return place


def advlora_ui(place, *arguments: str, **environment: str) -> subprocess.Popen:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    return subprocess.Popen(
        [*ADVLORA, "ui", *arguments],
        cwd=place,
        env={**kept, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def ui(studied, tmp_path_factory):
    """The UI on the study's store, started in another folder; and the port."""
    port = free_port()
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    process = advlora_ui(elsewhere, str(studied / "runs" / "parts"), "--port", str(port))
    try:
        wait_for(f"http://127.0.0.1:{port}", process)
        yield process, port
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def search_runs(port: int) -> list[dict]:
    body = json.dumps({"experiment_ids": ["1"], "max_results": 100}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/2.0/mlflow/runs/search", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)["runs"]


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_browser_shows_the_nested_runs(ui, tmp_path):
    _, port = ui
    page = f"http://127.0.0.1:{port}/#/experiments/1/runs?workflowType=machine_learning"
    steps = [SHOWN.format("parts"), EXPAND.format("parts"), SHOWN.format("wide"), EXPAND.format("wide")]
    picture = asyncio.run(browse(page, [*steps, SHOWN.format("wide · seed 1")], tmp_path))
    assert picture.startswith(b"\x89PNG")
    (tmp_path / "nested.png").write_bytes(picture)


SHOWN = """(() => [...document.querySelectorAll('.ag-trial a')].some(link => link.textContent === '{}'))()"""
"""Whether the table of runs has a name."""
EXPAND = """(() => {{
    const link = [...document.querySelectorAll('.ag-trial a')].find(link => link.textContent === '{}');
    const button = link.closest('.ag-trial').querySelector('button');
    button.click();
    return true;
}})()"""
"""Opens the children of a run."""


async def browse(page: str, steps: list[str], profile: Path, seconds: float = 60) -> bytes:
    """Opens a page, takes each step until it returns true, and returns what is seen at the end."""
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--window-size=1500,1000", *quiet]
    own = [f"--user-data-dir={profile}", "--remote-debugging-port=0"]
    process = subprocess.Popen([CHROMIUM, *options, *own, page], stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        async with asyncio.timeout(seconds), aiohttp.ClientSession() as session:
            socket = await session.ws_connect(await debugger(session, profile), max_msg_size=0)
            for step in steps:
                while not (await ask(socket, "Runtime.evaluate", expression=step))["result"].get("value"):
                    await asyncio.sleep(0.2)
            return base64.b64decode((await ask(socket, "Page.captureScreenshot", format="png"))["data"])
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


async def debugger(session: aiohttp.ClientSession, profile: Path) -> str:
    """Returns the address at which a new browser's page takes commands."""
    while not (profile / "DevToolsActivePort").exists():
        await asyncio.sleep(0.1)
    port = (profile / "DevToolsActivePort").read_text().split()[0]
    async with session.get(f"http://127.0.0.1:{port}/json") as answer:
        pages = [target for target in await answer.json() if target["type"] == "page"]
    return pages[0]["webSocketDebuggerUrl"]


async def ask(socket: aiohttp.ClientWebSocketResponse, method: str, **parameters: str) -> dict:
    """Sends one command and returns its result."""
    await socket.send_json({"id": 1, "method": method, "params": parameters})
    while True:
        answer = await socket.receive_json()
        if answer.get("id") == 1:
            return answer["result"]


def test_the_ui_serves_the_store_of_a_study_from_any_folder_on_the_loopback_only(ui):
    process, port = ui
    assert {run["info"]["run_name"] for run in search_runs(port)} >= {"parts", "wide", "wide · seed 0"}
    others = {entry[4][0] for entry in socket.getaddrinfo(socket.gethostname(), port)} - {"127.0.0.1", "127.0.1.1"}
    for address in others:
        with pytest.raises(OSError):
            socket.create_connection((address, port), timeout=2).close()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) in {0, -signal.SIGTERM}
    told = process.stdout.read()
    assert f"http://127.0.0.1:{port}/#/experiments/1/runs" in told
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=2)


def test_a_port_in_use_is_one_sentence(studied):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        process = advlora_ui(studied, "--port", port)
        told, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in told
    assert "--port" in told
    assert "Traceback" not in told


def test_a_folder_without_a_store_says_how_to_get_one(tmp_path):
    process = advlora_ui(tmp_path)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert f"no MLflow store {tmp_path}/mlflow.db" in told
    assert not list(tmp_path.iterdir())


def test_a_tracking_server_is_named_without_its_password(tmp_path):
    process = advlora_ui(tmp_path, MLFLOW_TRACKING_URI="http://ada:s3cret@tracking:5000")
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "tracking server already: http://tracking:5000" in told
    assert "s3cret" not in told
