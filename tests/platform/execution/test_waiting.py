"""A cluster that others use and that grows: a study waits with a word, and takes what comes."""

from __future__ import annotations

import time

import pytest

from advlora.config import parse
from advlora_platform.execution import run, throttle
from advlora_platform.execution.session import SETTINGS
from advlora_platform.search.ablation import PlanSearcher
from advlora_platform.study.ablation import AblationStudy
from advlora_platform.study.folder import StudyFolder
from advlora_platform.study.ledger import Ledger
from advlora_platform.study.trials import TrialFactory
from tests.platform.commands import BASE, PROTOCOL

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]
STUDY = {
    "name": "waiting",
    "seeds": [0, 1],
    "base": BASE,
    "protocol": PROTOCOL,
    "arms": {"LoRA": {"adapter.init": "gaussian"}},
}
NODE = {"num_cpus": 1, "memory": 4 * 2**30, "object_store_memory": 100 * 2**20}


@pytest.fixture
def cluster(monkeypatch):
    """A head with one core, which this process has joined."""
    import ray
    from ray.cluster_utils import Cluster

    for name, value in {**SETTINGS, "RAY_AUTH_MODE": "disabled"}.items():
        monkeypatch.setenv(name, value)
    started = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    ray.init(started.address, log_to_driver=False, logging_level="ERROR")
    yield started
    ray.shutdown()
    started.shutdown()


class Guest:
    """Somebody else's actor."""

    def ready(self):
        return True


class Host:
    """Gives the study a node once it has complained, and the guest's core once it runs."""

    def __init__(self, cluster, guest):
        self.cluster, self.guest, self.complaints, self.spans = cluster, guest, [], {}

    def waiting(self, text):
        self.complaints.append(text)
        if len(self.complaints) == 1:
            self.cluster.add_node(**NODE)

    def trial_started(self, trial):
        import ray

        if not self.spans:
            ray.kill(self.guest)
        self.spans[trial.seed] = [time.monotonic()]

    def trial_reported(self, trial, epoch, metrics): ...

    def trial_finished(self, trial, metrics, stopped_early, unreliable=""):
        self.spans[trial.seed].append(time.monotonic())

    def trial_failed(self, trial, failure): ...


def test_a_study_takes_the_nodes_that_come_and_the_cores_that_others_leave(tmp_path, cluster, monkeypatch):
    import ray

    monkeypatch.setattr(throttle, "PATIENCE", 2.0)
    monkeypatch.setattr(throttle, "REFRESH_SECONDS", 0.5)
    guest = ray.remote(Guest).options(num_cpus=1).remote()
    ray.get(guest.ready.remote())
    study = parse(AblationStudy, STUDY)
    factory, folder, host = (
        TrialFactory(dict(study.base), study.protocol, "d"),
        StudyFolder(tmp_path),
        Host(cluster, guest),
    )
    searcher = PlanSearcher(study, factory, [])
    run(searcher, factory, folder, [Ledger(folder), host], resources=study.trial.resources)
    assert [record.status for record in Ledger(folder).records()] == ["done", "done"]
    assert "1 CPU" in host.complaints[0]
    assert "CPU: 0 of 1 free, 0 held by this study" in host.complaints[0]
    (began, ended), (began_beside, _) = sorted(host.spans.values())
    assert began < began_beside < ended  # both ran at once, though there was no core for either at first
