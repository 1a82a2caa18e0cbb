from __future__ import annotations

import pytest

from tests.advlora.data.shard_files import Folder


@pytest.fixture
def folder(tmp_path) -> Folder:
    return Folder(tmp_path)
