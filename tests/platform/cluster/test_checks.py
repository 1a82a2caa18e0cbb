from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from advlora_platform.cluster import checks
from advlora_platform.cluster.checks import memory, nodes, tracked
from advlora_platform.cluster.facts import of_this_node
from advlora_platform.execution.storage import marked

pytestmark = pytest.mark.unit
OUT = PurePosixPath("/mnt/runs")


def fact(name: str = "a", **changes) -> dict:
    content = {
        "node": name,
        "gpus": 0,
        "asked": 100.0,
        "clock": 100.5,
        "answered": 101.0,
        "versions": {"torch": "2.9", "python": "3.11"},
        "storage": "",
        "cuda": False,
    }
    return {**content, **changes}


def failed(*facts: dict) -> dict[str, str]:
    return {check.name: check.found for check in nodes(facts, OUT) if not check.ok}


def test_a_cluster_of_equal_nodes_is_fit():
    assert failed(fact("a"), fact("b", gpus=4, cuda=True)) == {}
    assert {check.name: check.found for check in nodes([fact("a"), fact("b", gpus=4, cuda=True)], OUT)} == {
        "nodes": "2 answer",
        "versions": "the same everywhere",
        "storage": "/mnt/runs: shared and writable",
        "clocks": "agree",
        "gpus": "4",
    }


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"versions": {"torch": "2.8", "python": "3.11"}}, {"versions": "torch: 2.8 and 2.9"}),
        ({"storage": "cannot write there"}, {"storage": "b: cannot write there"}),
        ({"clock": 161.0}, {"clocks": "b: 60 s"}),
        ({"clock": 40.0}, {"clocks": "b: 60 s"}),
        ({"clock": 104.0}, {}),
        ({"gpus": 2}, {"gpus": "b: torch without CUDA"}),
    ],
)
def test_a_node_that_differs_is_named(changes, said):
    assert failed(fact("a"), fact("b", **changes)) == said


def test_a_node_that_does_not_answer_is_named_and_the_others_are_judged():
    silent = {"node": "b", "gpus": 1, "asked": 1.0, "answered": 2.0, "problem": "No module named 'torch'"}
    assert failed(fact("a"), silent) == {"nodes": "b: No module named 'torch'"}


def test_every_failure_says_how_to_fix_it():
    wrong = fact("b", versions={}, storage="x", clock=0.0, gpus=1)
    found = [
        *nodes([fact(), wrong], OUT),
        tracked({"store": "s", "problem": "does not answer"}),
        memory(2**30),
    ]
    assert [check.name for check in found if not check.ok] == [
        *("versions", "storage", "clocks", "gpus", "tracking", "head memory"),
    ]
    assert all(check.fix for check in found)
    assert tracked({"store": "http://mlflow", "problem": ""}).ok
    assert memory(8 * 2**30).ok


@pytest.mark.parametrize(
    ("status", "address", "ok"),
    [(401, "http://10.0.0.1:8265", True), (200, "http://10.0.0.1:8265", False), (200, "http://localhost:8265/", True)],
)
def test_a_port_that_asks_nobody_for_a_token_is_open_to_the_network(status, address, ok, monkeypatch):
    monkeypatch.setattr(checks, "_status", lambda url: status)
    assert checks.authentication(address).ok == ok


def test_a_node_says_of_itself_what_is_compared(tmp_path):
    with marked(tmp_path) as mark:
        found = of_this_node(mark)
    assert failed(fact("a", asked=0.0, answered=4e9) | found) == {}
    assert {"torch", "ray", "python", "method"} <= set(found["versions"])
