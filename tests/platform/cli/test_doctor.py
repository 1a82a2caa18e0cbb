from __future__ import annotations

import json

import pytest

from advlora_platform import doctor
from advlora_platform.doctor import Check

pytestmark = pytest.mark.unit

LONG = "robust 38.0%, 38.0% by a library whose name is so long that it does not fit on one line"


@pytest.fixture
def found(monkeypatch) -> list[Check]:
    checks = [Check("python", "3.11.9"), Check("library", LONG)]
    monkeypatch.setattr(doctor, "examine", lambda: iter(checks))
    return checks


def test_a_healthy_installation_ends_with_0_and_fits_a_terminal(advlora, found):
    answer = advlora("doctor")
    assert answer.code == 0
    assert "all checks are ok" in answer.out
    assert all(len(line) <= 80 for line in answer.out.splitlines())
    assert "".join(LONG.split()) in "".join(answer.out.replace("ok", "").split())


def test_what_failed_is_said_with_how_to_fix_it(advlora, found):
    found.append(Check("torch", "1.0", False, "pip install 'torch>=2.8,<2.15'"))
    answer = advlora("doctor")
    assert answer.code == 1
    assert "FAILED" in answer.out
    assert "fix: pip install 'torch>=2.8,<2.15'" in answer.out
    assert "1 of 3 checks failed" in answer.out


def test_programs_read_it_as_json(advlora, found):
    answer = advlora("doctor", "--json")
    content = json.loads(answer.out)
    assert content["ok"] is True
    assert content["checks"][0] == {"name": "python", "found": "3.11.9", "ok": True, "fix": ""}
