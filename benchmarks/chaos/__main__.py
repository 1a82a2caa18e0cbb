"""Kills random processes at random times under studies on a real cluster, and compares what comes out.

A head and two nodes of one core each, so that every core is in use; a tracking server. Ablations, sweeps and ablations
with two workers per trial run one after the other until enough was killed; a driver that ends early is started again by
the same command. Then every study is compared with an undisturbed run: trial by trial to the last digit, run by run in
MLflow, and for processes, placement groups, actors, cores and drafts that were left.

Usage:
    python -m benchmarks.chaos --kills 100
    python -m benchmarks.chaos --kills 10 --studies ablation
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from random import Random

from benchmarks.chaos.checks import Records, differences, left_behind, untracked
from benchmarks.chaos.cluster import Nodes, Server, wait_for
from benchmarks.chaos.driver import Driver
from benchmarks.chaos.studies import STUDIES
from benchmarks.chaos.victims import EVERYONE, kill_someone

AT_ONCE = 0.3
"""Chance of a kill that does not wait until the study has gone on: it hits the recovery from the last one."""
HANGS_AFTER = 300.0
"""Seconds without anything new that count as hanging."""


@dataclass
class Tally:
    """What was killed, and how long it took until the study went on."""

    recoveries: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    kills: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    faults: list[str] = field(default_factory=list)
    studies: int = 0
    starts: int = 0

    @property
    def total(self) -> int:
        """All kills."""
        return sum(self.kills.values())

    def lines(self) -> list[str]:
        """The table."""
        rows = ["| killed | times | median seconds until something new | longest |", "|---|---|---|---|"]
        for kind in (kind for kind in EVERYONE if self.kills[kind]):
            waits = self.recoveries[kind] or [float("nan")]
            rows.append(f"| {kind} | {self.kills[kind]} | {statistics.median(waits):.0f} | {max(waits):.0f} |")
        rows.append(f"| all | {self.total} | | |")
        ended = f"{self.studies} studies, {self.starts} starts of a driver, {len(self.faults)} faults"
        return [*rows, "", ended, *self.faults]


class Chaos:
    """Disturbs one study after the other."""

    def __init__(self, place: Path, kills: int, seed: int, kinds: tuple[str, ...]) -> None:
        self._place, self._wanted, self._kinds = place, kills, kinds
        self._draw, self._tally = Random(seed), Tally()  # noqa: S311 - nothing secret
        self._nodes, self._server = Nodes(2), Server(place)

    def run(self, studies: list[str], expected: dict[str, Records]) -> Tally:
        """Runs studies until enough was killed."""
        for number, kind in enumerate(cycle(studies)):
            if self._tally.total >= self._wanted:
                return self._tally
            self._round(kind, f"{kind}-{number}", expected[kind])
        raise AssertionError("cycle never ends")

    def close(self) -> None:
        """Ends cluster and server."""
        self._server.kill()
        self._nodes.stop()

    def _round(self, kind: str, name: str, expected: Records) -> None:
        driver = Driver(kind, self._place / name, self._server.uri, self._nodes.address, name)
        try:
            while driver.goes_on():
                if self._tally.total < self._wanted:
                    self._disturb(driver)
                else:
                    self._wait_for_news(driver, "the end")
        except (RuntimeError, TimeoutError) as fault:
            self._tally.faults.append(f"{name}: {fault}")
            driver.kill()
            return
        records, tally = driver.records(), self._tally
        tally.studies, tally.starts = tally.studies + 1, tally.starts + driver.starts
        found = [*differences(records, expected), *untracked(self._server.uri, name, records)]
        found += left_behind(self._nodes.address, self._nodes.size, driver.folder)
        tally.faults += [f"{name}: {fault}" for fault in found]
        print(f"{name}: {len(records)} trials, {driver.starts} starts, {len(found)} faults", flush=True)

    def _disturb(self, driver: Driver) -> None:
        """Kills someone at a random moment, and sees how long it takes until the study goes on."""
        time.sleep(self._draw.uniform(0, 6))
        if not driver.goes_on():
            return
        killed, pid = kill_someone(self._draw, self._kinds, driver, self._nodes, self._server)
        if killed not in EVERYONE:
            return
        begin, before = time.monotonic(), driver.progress()
        self._tally.kills[killed] += 1
        print(f"{self._tally.total:4d} {time.strftime('%H:%M:%S')} {driver.name} {killed} {pid}", flush=True)
        self._repair(killed, driver)
        if self._draw.random() >= AT_ONCE:
            self._wait_for_news(driver, f"after {killed} was killed", before)
            self._tally.recoveries[killed].append(time.monotonic() - begin)

    def _repair(self, killed: str, driver: Driver) -> None:
        """Starts again what an operator would: the server, and a cluster that lost its head."""
        if killed == "server":
            time.sleep(self._draw.uniform(0, 5))
            self._server.start()
        elif killed == "head":
            self._nodes.stop()
            self._nodes.start()
            driver.address = self._nodes.address
            wait_for(lambda: driver.process.poll() is not None, "the driver of a cluster without a head", HANGS_AFTER)

    def _wait_for_news(self, driver: Driver, what: str, before: str | None = None) -> None:
        before = driver.progress() if before is None else before
        wait_for(lambda: not driver.goes_on() or driver.progress() != before, what, HANGS_AFTER)


def undisturbed(kind: str, place: Path) -> Records:
    """Runs a study on this machine alone and returns its ledger."""
    driver = Driver(kind, place / f"{kind}-undisturbed", f"sqlite:///{place / 'undisturbed.db'}")
    if driver.process.wait() != 0:
        raise RuntimeError(f"{kind} fails undisturbed; see {driver.log}")
    return driver.records()


def main() -> None:
    """Prints what was killed and what came of it; ends with 1 where a study was not the same."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--studies", nargs="*", default=list(STUDIES), choices=list(STUDIES))
    parser.add_argument("--victims", nargs="*", default=list(EVERYONE), choices=list(EVERYONE))
    parser.add_argument("--out", type=Path, help="where studies and logs are kept; default: a folder that is removed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = options.out or Path(scratch)
        place.mkdir(parents=True, exist_ok=True)
        expected = {kind: undisturbed(kind, place.resolve()) for kind in options.studies}
        print(f"undisturbed: {', '.join(f'{kind} {len(records)} trials' for kind, records in expected.items())}")
        chaos = Chaos(place.resolve(), options.kills, options.seed, tuple(options.victims))
        try:
            tally = chaos.run(options.studies, expected)
        finally:
            chaos.close()
    print("\n".join(tally.lines()))
    sys.exit(1 if tally.faults else 0)


if __name__ == "__main__":
    main()
