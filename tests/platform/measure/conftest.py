"""A model that differs from the embedded one, as `advlora train` writes it, and a protocol of a second."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

PROTOCOL = {
    "attacks": [{"steps": 2}, {"steps": 2, "loss": "margin"}],
    "curve": ["4/255"],
    "samples": {"val": 16, "test": 16},
    "guards": {"samples": 8, "queries": 4, "steps": 2},
}


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """The `model/` folder of an adapter that was not trained but moved."""
    import torch

    from advlora.adapters import save_trained
    from advlora.config import TrialConfig, parse
    from advlora.training.trainer import restore
    from advlora.training.workbench import Workbench

    config = parse(TrialConfig, {"adapter": {"rank": 2, "target": "attention-qv"}})
    adapted = restore(config, Workbench())
    source = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in adapted.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=source)
    folder = tmp_path_factory.mktemp("best") / "model"
    save_trained(adapted, config.model, config.adapter, folder, torch.rand(2, 3, 28, 28, generator=source))
    return folder


@pytest.fixture(scope="session")
def protocol(tmp_path_factory):
    """Writes a protocol and returns its file."""

    def write(**changes) -> str:
        file = tmp_path_factory.mktemp("protocol") / "tiny.yaml"
        file.write_text(yaml.safe_dump({**PROTOCOL, **changes}))
        return str(file)

    return write
