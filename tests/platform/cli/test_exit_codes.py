"""What a command's exit code says: 0 complete, 1 incomplete, 2 wrong input, 130 interrupted, 143 terminated."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import yaml

from advlora_platform.search.plan import plan_arms
from advlora_platform.study.failures import Failure
from advlora_platform.study.folder import StudyFolder
from advlora_platform.study.holder import Holder
from advlora_platform.study.lease import Lease
from advlora_platform.study.ledger import Ledger
from advlora_platform.study.library import load_any
from advlora_platform.study.opening import trials_of
from advlora_platform.study.trials import Trial

ABLATION = {
    "kind": "ablation",
    "name": "small",
    "seeds": [0, 1],
    "base": {"data": {"train_samples": 64}, "attack": {"steps": 1}, "optimiser": {"batch_size": 32, "epochs": 1}},
    "protocol": {"attacks": [{"steps": 1}], "samples": {"val": 16, "test": 16}, "guards": {"enabled": False}},
    "arms": {"LoRA": {"adapter.init": "gaussian"}, "full": {"adapter.kind": "full"}},
}
SWEEP = {
    **{key: ABLATION[key] for key in ("base", "protocol")},
    "kind": "sweep",
    "name": "hunt",
    "parameters": {"adapter.rank": {"type": "int", "low": 2, "high": 16}},
    "search": {"trials": 3, "scheduler": {"kind": "none"}},
    "confirm": None,
}
FOLDER = StudyFolder(Path("runs/it"))
DIVERGED = Failure("diverged", "loss is nan [/batch]")
RUN = ["--out", "runs/it"]


def study_file(content: dict) -> str:
    Path("study.yaml").write_text(yaml.safe_dump(content))
    return "study.yaml"


def ablation_trials() -> Iterator[Trial]:
    study = load_any(study_file(ABLATION), ())
    for plan in plan_arms(study, trials_of(study), {}):
        yield from plan.trials


def sweep_trials() -> Iterator[Trial]:
    factory = trials_of(load_any(study_file(SWEEP), ()))
    for rank in (2, 4, 8):
        yield factory.trial("search", 0, {"adapter.rank": rank}, "search")


def note(trials: Iterator[Trial], failures: dict[int, Failure]) -> None:
    """Writes a ledger in which some trials failed and the others are done."""
    ledger = Ledger(FOLDER)
    for place, trial in enumerate(trials):
        metrics = {"val/clean_r1": 0.8, "val/robust_r1:8_255": 0.4, "test/clean_r1": 0.8, "test/robust_r1:8_255": 0.4}
        if place in failures:
            ledger.trial_failed(trial, failures[place])
        else:
            ledger.trial_reported(trial, 1, metrics)
            ledger.trial_finished(trial, metrics, False)


@pytest.mark.unit
@pytest.mark.parametrize(
    ("failed", "code", "said"),
    [
        ([], 0, ""),
        ([2], 1, "of 4 trials, 1 have no result (1 failed); the first failure is diverged: loss is nan [/batch]"),
        (range(4), 1, "of 4 trials, 4 have no result (4 failed)"),
    ],
)
def test_an_ablation_whose_trials_failed_is_incomplete(store, advlora, failed, code, said):
    note(ablation_trials(), dict.fromkeys(failed, DIVERGED))
    answer = advlora("ablate", "study.yaml", *RUN, "--json")
    assert answer.code == code, answer.err
    assert said in answer.err
    assert json.loads(answer.out)["counts"]["failed"] == len(failed)


@pytest.mark.unit
def test_failures_may_be_allowed_and_are_still_told(store, advlora):
    note(ablation_trials(), dict.fromkeys(range(4), DIVERGED))
    answer = advlora("ablate", "study.yaml", *RUN, "--allow-failures")
    assert answer.code == 0
    assert "incomplete: of 4 trials, 4 have no result (4 failed)" in answer.err


@pytest.mark.unit
@pytest.mark.parametrize(("failed", "code"), [([1], 0), (range(3), 1)])
def test_that_some_configurations_of_a_search_diverge_is_its_result(store, advlora, failed, code):
    note(sweep_trials(), dict.fromkeys(failed, DIVERGED))
    assert advlora("sweep", "study.yaml", *RUN).code == code


@pytest.mark.unit
def test_a_study_that_another_process_drives_is_wrong_input(store, advlora):
    note(ablation_trials(), {})
    with Lease(FOLDER):
        answer = advlora("ablate", "study.yaml", *RUN)
    assert answer.code == 2
    assert f"another process (id {os.getpid()} on" in answer.err
    assert answer.err.count("error:") == 1
    assert "Traceback" not in answer.err


@pytest.mark.unit
def test_a_damaged_file_of_the_study_is_one_sentence(store, advlora):
    note(ablation_trials(), {})
    assert advlora("ablate", "study.yaml", *RUN).code == 0
    (FOLDER.path / "identity.json").write_text('{"trial_id": "a')
    answer = advlora("report", "runs/it")
    assert answer.code == 2
    assert "identity.json is damaged (Unterminated string" in answer.err
    assert answer.err.count("error:") == 1
    assert "Traceback" not in answer.err


@pytest.mark.unit
def test_a_folder_that_cannot_be_made_is_one_sentence(store, advlora):
    answer = advlora("ablate", study_file(ABLATION), "--out", "study.yaml/inside")
    assert answer.code == 2
    assert "study.yaml/inside': Not a directory; what was computed is kept" in answer.err
    assert "Traceback" not in answer.err


@pytest.mark.unit
def test_a_full_storage_is_one_sentence(store):
    """The kernel refuses what does not fit into 16 bytes, as it does on a full disk or beyond a quota."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (16, 16)); "
    command = start("ablate", study_file(ABLATION), *RUN, before=limit)
    _, error = command.communicate(timeout=120)
    assert command.returncode == 2
    assert "the storage refuses" in error
    assert "File too large; what was computed is kept, and the same command continues" in " ".join(error.split())
    assert "Traceback" not in error


def start(*arguments: str, before: str = "") -> subprocess.Popen:
    code = f"{before}from advlora_platform.cli import main; main()"
    hidden = {"MLFLOW_TRACKING_URI", "RAY_ADDRESS"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )


@pytest.mark.unit
@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")]
)
def test_a_driver_that_waits_says_for_whom_and_ends_by_a_signal(store, number, code, word):
    note(ablation_trials(), {})
    with Lease(FOLDER):
        command = start("ablate", "study.yaml", *RUN, "--wait")
        line = command.stderr.readline()
        assert f"another process (id {os.getpid()} on" in line
        assert "waiting until it ends" in line
        command.send_signal(number)
        _, error = command.communicate(timeout=60)
    assert command.returncode == code
    assert error.strip() == f"{word}; the same command continues where this one stopped"


@pytest.fixture
def running(store):
    """A study in which a worker has taken up a trial, and all processes that belong to it."""
    base = {**ABLATION["base"], "optimiser": {"batch_size": 32, "epochs": 1000}}
    command = start("ablate", study_file({**ABLATION, "base": base, "max_concurrent": 1}), *RUN)
    try:
        while not list(FOLDER.ledger.glob("*.json")):
            assert command.poll() is None, command.stderr.read()
            time.sleep(0.1)
        yield command, psutil.Process(command.pid).children(recursive=True)
    finally:
        command.kill()
        command.communicate()


@pytest.mark.integration
@pytest.mark.timeout(600)
def test_a_terminated_study_says_so_in_one_sentence_and_leaves_nothing_behind(running):
    command, children = running
    assert any("raylet" in process.name() for process in children)
    command.send_signal(signal.SIGTERM)
    _, error = command.communicate(timeout=100)
    assert command.returncode == 143
    assert error.strip().splitlines()[-1] == "terminated; the same command continues where this one stopped"
    assert "Traceback" not in error
    assert "SIGTERM" not in error  # the head of a stack trace of C++
    assert not FOLDER.lease.exists()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.timeout(600)
def test_a_study_that_another_driver_has_taken_over_stops_with_one_sentence(running):
    command, _ = running
    FOLDER.lease.write_text(replace(Holder.me(), host="elsewhere", machine="elsewhere").text())
    _, error = command.communicate(timeout=100)
    assert command.returncode == 2
    assert error.count("error:") == 1
    assert "on elsewhere" in error
    assert "has taken over the study" in error
    assert "Traceback" not in error
    assert FOLDER.lease.exists()
