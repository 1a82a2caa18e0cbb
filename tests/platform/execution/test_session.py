from __future__ import annotations

import pytest
import ray

from advlora.errors import UserError
from advlora_platform.execution.session import session

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (None, "no Ray on this machine: The node timed out"),
        ("far:1", "no Ray at RAY_ADDRESS=far:1: The node timed out"),
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
