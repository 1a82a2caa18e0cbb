"""Several processes, one GPU each, over NCCL; and a worker that Ray places on a GPU."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as processes
import yaml

from advlora.distributed import Group
from advlora.training.trainer import fine_tune
from advlora.training.workbench import Workbench
from tests.advlora.short_trials import PROTOCOL, trial
from tests.builders import VAL_ROBUST
from tests.platform import commands

pytestmark = pytest.mark.gpu

LOSS = 1e-3
"""Largest relative difference of a loss between numbers of processes: sums are rounded in another order."""


def _train(rank: int, size: int, folder: str) -> None:
    device = torch.device("cuda", rank)
    torch.cuda.set_device(device)
    dist.init_process_group("nccl", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
    group = Group.current()
    config = trial({"resources.workers": size, "resources.gpus_per_worker": 1, "optimiser.epochs": 1})
    *_, last = fine_tune(config, PROTOCOL, bench=Workbench(), group=group, device=device)
    if rank == 0:
        torch.save(last.metrics, f"{folder}/metrics")
    dist.destroy_process_group()


def metrics_of(size: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        processes.spawn(_train, (size, folder), nprocs=size)
        return torch.load(Path(folder) / "metrics")


def test_a_group_of_one_over_nccl_gives_what_no_group_gives(cuda):
    config = trial({"resources.gpus_per_worker": 1, "optimiser.epochs": 1})
    *_, alone = fine_tune(config, PROTOCOL, bench=Workbench(), device=cuda)
    assert metrics_of(1)["train/loss"] == alone.metrics["train/loss"]


def test_two_gpus_give_what_one_gives():
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    one, two = metrics_of(1), metrics_of(2)
    assert two["train/loss"] == pytest.approx(one["train/loss"], rel=LOSS)
    assert two["cost/flops"] == pytest.approx(one["cost/flops"], rel=0.01)


def test_a_study_runs_on_a_gpu_worker_of_ray(tmp_path):
    base = {**commands.BASE, "resources": {"gpus_per_worker": 1}, "precision": "bf16"}
    study = {
        "name": "gpu",
        "kind": "ablation",
        "seeds": [0],
        "base": base,
        "protocol": commands.PROTOCOL,
        "arms": {"AdvLoRA": {}},
    }
    (tmp_path / "gpu.yaml").write_text(yaml.safe_dump(study))
    answer = commands.advlora(tmp_path, "ablate", "gpu.yaml", "--out", "run")
    assert answer.returncode == 0, answer.stderr
    (record,) = commands.records(tmp_path / "run").values()
    assert record["status"] == "done"
    assert 0 < record["metrics"]["cost/peak_memory_mb"] < 512  # of the GPU; the process itself is larger
    assert VAL_ROBUST in record["metrics"]
