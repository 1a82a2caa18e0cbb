from __future__ import annotations

import os

import pytest

from advlora.config import ResourcesConfig
from advlora.errors import UserError
from advlora_platform.execution.resources import Node, available, concurrency, slot_bundles, to_come

pytestmark = pytest.mark.unit
GIB = 2**30


def node(cpus=8, gpus=0, memory=64) -> Node:
    return Node(cpus, gpus, memory * GIB)


@pytest.mark.parametrize(
    ("resources", "nodes", "trials"),
    [
        ({}, [node(cpus=2)], 2),
        ({"cpus_per_worker": 4}, [node()], 2),
        ({"workers": 2}, [node()], 4),
        ({"workers": 4, "gpus_per_worker": 1}, [node(gpus=4), node(gpus=4)], 2),
        ({"workers": 8, "gpus_per_worker": 1}, [node(gpus=4), node(gpus=4)], 1),
        ({"gpus_per_worker": 0.25}, [node(gpus=1)], 4),
        ({"gpus_per_worker": 0.1}, [node(cpus=64, gpus=1)], 10),
        ({"gpus_per_worker": 0.6}, [node(gpus=2)], 2),
        ({"gpus_per_worker": 0.7}, [node(cpus=64, gpus=8)], 8),
        ({"gpus_per_worker": 2}, [node(gpus=3), node(gpus=3)], 2),
        ({"memory_gb_per_worker": 20}, [node(memory=64)], 3),
        ({"cpus_per_worker": 3}, [node(cpus=4), node(cpus=4)], 2),
    ],
)
def test_concurrency_follows_from_what_is_scarcest(resources, nodes, trials):
    assert concurrency(ResourcesConfig(**resources), nodes) == trials


@pytest.mark.parametrize(
    ("resources", "worker"),
    [
        ({}, {"CPU": 1, "memory": GIB}),
        (
            {"cpus_per_worker": 4, "gpus_per_worker": 1, "memory_gb_per_worker": 2.5},
            {"CPU": 4, "GPU": 1, "memory": 2.5 * GIB},
        ),
    ],
)
def test_a_slot_holds_its_single_worker_itself_and_leaves_a_group_to_ray_train(resources, worker):
    own, beside = slot_bundles(ResourcesConfig(**resources))
    assert beside == worker
    assert own.keys() == {"memory"}
    (alone,) = slot_bundles(ResourcesConfig(**resources, workers=2))
    assert alone["memory"] > own["memory"]


def test_the_user_may_bound_it_but_not_raise_it():
    assert concurrency(ResourcesConfig(), [node()], bound=3) == 3
    assert concurrency(ResourcesConfig(), [node()], bound=99) == 8


@pytest.mark.parametrize(
    ("resources", "said"),
    [
        ({"workers": 9}, "at most 8 worker"),
        ({"gpus_per_worker": 1}, "not even one worker fits"),
        ({"cpus_per_worker": 9}, "not even one worker fits"),
        ({"memory_gb_per_worker": 100}, "100 GB of memory"),
    ],
)
def test_an_impossible_request_is_refused_with_what_there_is(resources, said):
    with pytest.raises(UserError, match=said) as error:
        concurrency(ResourcesConfig(**resources), [node()])
    assert "8 CPU(s), 0 GPU(s), 64.0 GB" in str(error.value)


def test_a_cluster_that_scales_from_nothing_counts_what_it_may_grow_to():
    group = "{nodes: 3, cpus: 8, gpus: 4, memory_gb: 64}"
    assert to_come(group) == [node(gpus=4)] * 3
    assert concurrency(ResourcesConfig(gpus_per_worker=1), to_come(group)) == 12
    assert to_come(f"[{group}, {{nodes: 1, cpus: 2, memory_gb: 4}}]")[3] == node(cpus=2, memory=4)
    assert to_come("") == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("{nodes: 3", "ADVLORA_GROWS_TO: .*not valid YAML"),
        ("{nodes: 0, cpus: 8, memory_gb: 1}", "ADVLORA_GROWS_TO.nodes"),
        ("{nodes: 1, cpu: 8, memory_gb: 1}", "ADVLORA_GROWS_TO.cpu"),
    ],
)
def test_a_growth_that_cannot_be_read_is_refused(wrong, said):
    with pytest.raises(UserError, match=said):
        to_come(wrong)


@pytest.mark.parametrize("address", [None, "", "local"])
def test_this_machine_is_measured(monkeypatch, address):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if address is not None:
        monkeypatch.setenv("RAY_ADDRESS", address)
    (machine,) = available()
    assert machine.cpus == len(os.sched_getaffinity(0))
    assert machine.memory > GIB / 4
