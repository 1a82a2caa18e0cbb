"""What a job takes along: this code, as it is imported here, and the study. Ray unpacks it on every node."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from advlora.errors import UserError
from advlora.reading import dump_yaml
from advlora_platform.study.roots import relative_paths
from advlora_platform.study.spec import Study

PACKAGES = ("advlora", "advlora_platform", "advlora_ablations", "advlora_protocols", "advlora_search_spaces")
STUDY = "study.yaml"


@contextmanager
def packed(study: Study | None = None) -> Iterator[Path]:
    """Yields a folder that holds the code and the resolved study, for as long as the context is open.

    Args:
        study: The validated study; None for the code alone.
    """
    with tempfile.TemporaryDirectory(prefix="advlora-job-") as name:
        folder = Path(name)
        for package in PACKAGES:
            shutil.copytree(_source(package), folder / package, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        _write_metadata(folder)
        if study is not None:
            (folder / STUDY).write_text(dump_yaml(study.model_dump(mode="json")))
        yield folder


def refuse_relative_paths(study: Study) -> None:
    """Refuses paths that begin in this folder, which the cluster does not have.

    Raises:
        UserError: With one sentence per path.
    """
    configs = [study.trial, *map(study.trial_with, study.arm_values.values())]
    found = {item for config in configs for item in relative_paths(config).items()}
    if study.transfer is not None and not os.path.isabs(study.transfer.root):
        found.add(("transfer.root", study.transfer.root))
    if found:
        raise UserError(
            f"{key}: '{path}' is relative to a folder of this machine; give the absolute path at which the nodes see it"
            for key, path in sorted(found)
        )


def _source(package: str) -> Path:
    return Path(str(importlib.resources.files(package)))


def _write_metadata(folder: Path) -> None:
    """Lets the nodes know version and requirements, as if the code were installed there."""
    metadata = importlib.metadata.distribution("advlora")
    place = folder / f"advlora-{metadata.version}.dist-info"
    place.mkdir()
    said = metadata.read_text("METADATA") or metadata.read_text("PKG-INFO")  # the second where a checkout is installed
    (place / "METADATA").write_text(said or "")
