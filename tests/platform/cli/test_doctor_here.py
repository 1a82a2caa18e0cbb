from __future__ import annotations

import pytest

pytestmark = pytest.mark.integration


def test_this_installation_is_healthy(advlora):
    answer = advlora("doctor")
    assert answer.code == 0, answer.out
    assert "0 of 50 images differ" in answer.out
