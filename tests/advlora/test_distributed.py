from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from advlora.distributed import SOLO, Group
from advlora.training.trainer import fine_tune
from advlora.training.workbench import Workbench
from tests.advlora.short_trials import PROTOCOL, numbers, trial

pytestmark = pytest.mark.unit

TRIALS = {
    "uneven": {"data.train_samples": 33, "adapter.alignment.weight": 10.0, "optimiser.epochs": 2},
    "contrastive": {"loss.kind": "contrastive", "adapter.adaptive.per": "rank", "optimiser.epochs": 1},
    "decay": {"data.train_samples": 33, "optimiser.weight_decay": 0.5, "optimiser.epochs": 1},
    "none": {"adapter.kind": "none"},
}
"""The last batch of the first holds one sample: one of two processes gets none."""
EXAMINATION = PROTOCOL.model_copy(update={"batch_size": 10})


def of_two(rank: int, folder: str) -> None:
    """What each of two processes does."""
    os.environ["OMP_NUM_THREADS"] = "1"
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    group, bench = Group.current(), Workbench()
    found = {"group": (group.rank, group.world_size)} | collective(group, Path(folder))
    for name, values in TRIALS.items():
        reports = list(fine_tune(trial(values), EXAMINATION, bench=bench, group=group, test=True))
        found[name] = [(numbers(report), report.state["adapter"]) for report in reports]
    torch.save(found, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def collective(group: Group, folder: Path) -> dict:
    own = torch.tensor([1.0, 10.0]) * (group.rank + 1)
    parameters = [torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(1, 3)), torch.nn.Parameter(own)]
    parameters[0].grad = own.clone()
    if group.rank == 0:
        parameters[1].grad = torch.full((1, 3), 5.0)
        (folder / "written").write_text("before the others go on")
    group.wait()
    seen = (folder / "written").exists()
    group.sum_gradients(parameters)
    return {
        "seen": seen,
        "sum": group.sum(own),
        "untouched": own,
        "broadcast": group.broadcast({"from": group.rank}),
        "named": group.sum_named(rows_by_name(group)),
        "batches": group.batches(7, 2),
        "gathered": group.gather({group.rank: "word" * group.rank}),
        "share": group.share(torch.tensor([4, 3, 9, 7, 5])),
        "rows": rows(group, 5),
        "row": rows(group, 1),
        "gradients": [parameter.grad for parameter in parameters],
        "without": without_gradient(group),
    }


def without_gradient(group: Group) -> list[list[float]]:
    """Ten steps of decaying parameters: one that never had a gradient, and one that has one in every other step."""
    parameters = [torch.nn.Parameter(torch.ones(1, 2)), torch.nn.Parameter(torch.ones(1, 2))]
    optimiser = torch.optim.AdamW(parameters, lr=0.1, weight_decay=0.1)
    for step in range(10):
        optimiser.zero_grad(set_to_none=True)
        if step % 2 == 0:
            parameters[1].grad = torch.full((1, 2), 1.0 / group.world_size)
        group.sum_gradients(parameters)
        optimiser.step()
    return [parameter.flatten().tolist() for parameter in parameters]


def rows_by_name(group: Group) -> dict:
    """What a process knows of three examples, of which the first one is not its own if it is the second process."""
    own = torch.arange(3) % 2 == group.rank
    return {
        "right": own,
        ("pgd", 0.1): torch.where(own, -1, 0).to(torch.int8),
        "table": torch.full((2, 1), group.rank, dtype=torch.int8),
    }


def rows(group: Group, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Gathers rows 0, 1, ..., and differentiates what this process adds: its rank + 1 times their squares."""
    share = group.share(torch.arange(batch))
    own = (share if len(share) else torch.tensor([99])).float()[:, None].requires_grad_()
    whole = group.rows(own, batch)
    ((group.rank + 1) * whole.square().sum()).backward()
    return whole.detach(), own.grad


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    mp.spawn(of_two, args=(str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def test_each_process_knows_its_place(pair):
    assert [found["group"] for found in pair] == [(0, 2), (1, 2)]
    assert Group.current() is SOLO


def test_the_sum_reaches_every_process_and_leaves_the_parts(pair):
    for rank, found in enumerate(pair):
        assert found["sum"].tolist() == [3.0, 30.0]
        assert found["untouched"].tolist() == [rank + 1, 10 * (rank + 1)]


def test_named_sums_keep_names_shapes_and_types(pair):
    for found in pair:
        named = found["named"]
        assert list(named) == ["right", ("pgd", 0.1), "table"]
        assert [row.tolist() for row in named.values()] == [[True] * 3, [-1] * 3, [[1], [1]]]
        assert [row.dtype for row in named.values()] == [torch.bool, torch.int8, torch.int8]


def test_batches_are_dealt_in_turn_and_cut_the_same_everywhere(pair):
    assert [[batch.tolist() for batch in found["batches"]] for found in pair] == [[[0, 1], [4, 5]], [[2, 3], [6]]]
    assert [batch.tolist() for batch in SOLO.batches(3, 2)] == [[0, 1], [2]]


def test_gradients_are_summed_and_a_missing_one_counts_as_zero(pair):
    for found in pair:
        assert [gradient.tolist() for gradient in found["gradients"]] == [[3.0, 30.0], [[5.0] * 3], [0.0, 0.0]]


def test_a_parameter_without_gradient_fares_the_same_on_any_number_of_processes(pair):
    alone = without_gradient(SOLO)
    assert alone[0] == pytest.approx([0.99**10] * 2, rel=1e-5)
    assert [found["without"] for found in pair] == [alone, alone]


def test_the_first_process_speaks_and_all_wait_for_all(pair):
    assert all(found["broadcast"] == {"from": 0} and found["seen"] for found in pair)


def test_what_each_has_is_gathered_in_their_order(pair):
    assert [found["gathered"] for found in pair] == 2 * [[{0: ""}, {1: "word"}]]


def test_rows_come_in_the_order_of_the_batch_and_take_the_gradient_of_all_processes(pair):
    for found in pair:
        assert found["rows"][0].flatten().tolist() == [0, 1, 2, 3, 4]
        assert found["row"][0].flatten().tolist() == [0]
    assert [found["rows"][1].flatten().tolist() for found in pair] == [[0, 12, 24], [6, 18]]
    assert [found["row"][1].flatten().tolist() for found in pair] == [[0], [0]]


def test_shares_are_disjoint_and_complete(pair):
    shares = [found["share"].tolist() for found in pair]
    assert shares == [[4, 9, 5], [3, 7]]


def test_one_process_alone_keeps_all_it_has():
    indices, parameter = torch.arange(3), torch.nn.Parameter(torch.ones(2))
    SOLO.wait()
    SOLO.sum_gradients([parameter])
    assert parameter.grad.tolist() == [0.0, 0.0]
    assert torch.equal(SOLO.sum(indices), indices)
    assert SOLO.sum_named({"a": indices}) == {"a": indices}
    assert torch.equal(SOLO.share(indices), indices)
    assert SOLO.broadcast("word") == "word"
    assert SOLO.rows(parameter, 2) is parameter
    assert SOLO.gather("word") == ["word"]


@pytest.mark.parametrize("name", TRIALS)
def test_both_processes_report_the_same_bits(pair, name):
    torch.testing.assert_close(pair[0][name], pair[1][name], rtol=0, atol=0)


@pytest.mark.parametrize("name", ["uneven", "contrastive", "decay"])
def test_two_processes_train_what_one_trains(pair, run, name):
    """Up to the order of sums: 1e-4 of the loss, 1e-4 in the weights, one example in the accuracies."""
    alone = run(TRIALS[name], EXAMINATION, test=True)
    assert len(alone) == len(pair[0][name])
    for report, (metrics, adapter) in zip(alone, pair[0][name], strict=True):
        expected = numbers(report)
        assert metrics["train/loss"] == pytest.approx(expected["train/loss"], rel=1e-4)
        # Merging the update, and the penalty, cost every process the same, however few its samples are.
        assert metrics.pop("cost/flops") == pytest.approx(expected.pop("cost/flops"), rel=5e-3)
        assert metrics == pytest.approx(expected, abs=1.01 / 32)
        torch.testing.assert_close(adapter, report.state["adapter"], rtol=0, atol=1e-4)


def test_an_examination_is_the_same_to_the_bit_on_any_number_of_processes(pair, run):
    (alone,) = run(TRIALS["none"], EXAMINATION, test=True)
    assert pair[0]["none"][0][0] == numbers(alone)
