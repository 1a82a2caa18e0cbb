"""A PostgreSQL server from the distribution, for a measurement or a test: in its own folder, on this machine alone."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path

from benchmarks.chaos.cluster import free_port, wait_for

USER = "postgres"
"""PostgreSQL does not run as root: then it runs as the user that its package made."""
MISSING = "PostgreSQL is not installed (Debian: apt-get install postgresql)"


def programs() -> Path | None:
    """Returns the folder of PostgreSQL's programs; None where it is not installed."""
    found = shutil.which("initdb")
    places = [*sorted(Path("/usr/lib/postgresql").glob("*/bin")), *([Path(found).resolve().parent] if found else [])]
    return places[0] if places else None


class Postgres:
    """Runs while the context lasts."""

    def __init__(self, folder: Path) -> None:
        """Makes an empty database in a folder that is made.

        Raises:
            FileNotFoundError: If PostgreSQL is not installed.
        """
        bin_folder = programs()
        if bin_folder is None:
            raise FileNotFoundError(MISSING)
        self._bin, self._folder, self._port = bin_folder, folder, free_port()
        self._user = USER if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        folder.mkdir(parents=True)
        if os.geteuid() == 0:
            shutil.chown(folder, USER, USER)
        self._run("initdb", "--auth=trust", f"--username={USER}", "--no-sync", "-D", str(folder / "data"))

    @property
    def uri(self) -> str:
        """As MLflow takes it."""
        return f"postgresql+psycopg2://{USER}@127.0.0.1:{self._port}/postgres"

    def __enter__(self) -> Postgres:
        options = ["-D", str(self._folder / "data"), "-p", str(self._port), "-k", str(self._folder)]
        with (self._folder.parent / "postgres.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._bin / "postgres"), *options, "-h", "127.0.0.1"],
                user=self._user if os.geteuid() == 0 else None,
                cwd="/",
                stdout=log,
                stderr=log,
            )
        ready = [str(self._bin / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self._port)]
        wait_for(lambda: subprocess.run(ready, check=False).returncode == 0, "PostgreSQL")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGINT)  # the fast shutdown, which does not wait for clients
        self._process.wait(60)

    def _run(self, program: str, *arguments: str) -> None:
        user = self._user if os.geteuid() == 0 else None
        subprocess.run([str(self._bin / program), *arguments], check=True, capture_output=True, user=user, cwd="/")
