"""The driver of a disturbed study, by its command: started again whenever it ended before the study did."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from benchmarks.chaos.studies import STUDIES

GIVE_UP = 12
"""So many starts one after another without anything new in the ledger mean that the study does not go on."""


class Driver:
    """One study in one folder."""

    def __init__(self, kind: str, place: Path, tracking: str, address: str = "", name: str = "") -> None:
        self.kind, self.place, self.tracking, self.address, self.name = kind, place, tracking, address, name or kind
        self.folder = place / "runs" / self.name
        self.starts, self._barren, self._seen = 0, 0, ""
        place.mkdir(parents=True, exist_ok=True)
        (place / "study.yaml").write_text(yaml.safe_dump({"name": self.name, **STUDIES[kind]}))
        self.start()

    def start(self) -> None:
        """Runs the command, once more where it ran before."""
        self._barren = self._barren + 1 if self.progress() == self._seen else 0
        if self._barren > GIVE_UP:
            raise RuntimeError(f"{GIVE_UP} starts without progress; see {self.log}")
        self._seen, self.starts = self.progress(), self.starts + 1
        hidden = {"RAY_ADDRESS", "MLFLOW_TRACKING_URI"}
        environment = {name: value for name, value in os.environ.items() if name not in hidden}
        environment |= {"MLFLOW_TRACKING_URI": self.tracking, "OMP_NUM_THREADS": "1"}
        environment |= {"RAY_ADDRESS": self.address} if self.address else {}
        verb = "sweep" if STUDIES[self.kind]["kind"] == "sweep" else "ablate"
        program = "from advlora_platform.cli import main; main()"
        command = [sys.executable, "-c", program, verb, "study.yaml", "--out", str(self.folder), "--wait"]
        with self.log.open("ab") as log:
            log.write(f"--- start {self.starts}\n".encode())
            log.flush()
            self.process = subprocess.Popen(command, cwd=self.place, env=environment, stdout=log, stderr=log)

    @property
    def log(self) -> Path:
        """What its commands said."""
        return self.place / "driver.log"

    def goes_on(self) -> bool:
        """Whether the study is not complete; a driver that ended is started again."""
        code = self.process.poll()
        if code == 0:
            return False
        if code is not None:
            self.start()
        return True

    def kill(self) -> int:
        """Kills the driver; whoever asks next whether it goes on starts another."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        return self.process.pid

    def progress(self) -> str:
        """A text that changes whenever the ledger learns something new of a trial."""
        return json.dumps({name: (each["status"], len(each["history"])) for name, each in self.records().items()})

    def records(self) -> dict[str, dict[str, Any]]:
        """Returns the ledger: trial -> record."""
        found = sorted((self.folder / "ledger").glob("*.json"))
        return {path.stem: json.loads(path.read_text()) for path in found}
