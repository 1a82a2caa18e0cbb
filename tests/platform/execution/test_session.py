from __future__ import annotations

import os
import signal
import socket
import sys

import pytest
import ray

from advlora.errors import UserError
from advlora_platform.execution.session import session

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (None, "no Ray on this machine: The node timed out"),
        ("auto", "no Ray at RAY_ADDRESS=auto: The node timed out"),
    ],
)
def test_a_ray_that_does_not_come_up_is_one_sentence(address, message, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if address:
        monkeypatch.setenv("RAY_ADDRESS", address)

    def refuse(*_, **__):
        raise Exception("The node timed out\nand a page of advice")

    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(UserError) as refused, session():
        pass
    assert refused.value.problems == [message]


def test_an_address_where_nothing_listens_is_refused_before_ray_tries_for_minutes(monkeypatch):
    with socket.socket() as taken:  # bound, but not listening: nobody else gets the port, and nobody answers
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        monkeypatch.setattr(ray, "init", lambda *_, **__: pytest.fail("Ray was started"))
        with pytest.raises(UserError, match="Connection refused") as refused, session():
            pass
    assert refused.value.problems[0].startswith(f"no Ray at RAY_ADDRESS={address}: ")


def test_an_empty_address_is_none(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "")
    asked = []
    monkeypatch.setattr(ray, "init", lambda address, **_: asked.append((address, os.environ.get("RAY_ADDRESS"))))
    with session():
        pass
    assert asked == [("local", None)]


def test_a_port_that_is_no_number_is_refused(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "head:many")
    with pytest.raises(UserError, match=r"RAY_ADDRESS=head:many: .*many"), session():
        pass


def test_a_cluster_that_listens_is_left_to_ray(monkeypatch):
    monkeypatch.setattr("advlora_platform.execution.address.PATIENCE", 0.5)  # this one listens, and says nothing
    with socket.create_server(("127.0.0.1", 0)) as cluster:
        address = f"127.0.0.1:{cluster.getsockname()[1]}"
        joined = []
        monkeypatch.setenv("RAY_ADDRESS", address)
        monkeypatch.setattr(ray, "init", lambda address, **_: joined.append(address))
        with session():
            pass
    assert joined == [address]


@pytest.fixture
def own_handler():
    """A program that handles SIGTERM, and on which Ray forces its own handler."""

    class Terminated(BaseException): ...

    def terminate(number, frame):
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    yield Terminated
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("while_it_starts", [True, False])
def test_a_termination_reaches_the_program_and_not_ray(monkeypatch, own_handler, while_it_starts):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def init(*_, **__):
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
        if while_it_starts:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(own_handler), session():
        os.kill(os.getpid(), signal.SIGTERM)
