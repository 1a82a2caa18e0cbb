from __future__ import annotations

import pytest
import torch

from benchmarks import gpu_check

pytestmark = pytest.mark.unit


def test_without_a_gpu_it_says_so_in_one_sentence(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_check.check(tmp_path / "report.md", run=pytest.fail) == 2
    assert capsys.readouterr().err == f"{gpu_check.NO_GPU}\n"
    assert not (tmp_path / "report.md").exists()


@pytest.mark.parametrize(("failing", "code"), [("", 0), ("pytest", 1), ("benchmarks.warm_overhead", 1)])
def test_tests_and_benchmarks_go_into_one_report(failing, code, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some Card")
    monkeypatch.setattr(gpu_check, "rows", lambda device: [("bf16", "any", "9,000", "1.20", "300", "61.0 %")])
    asked = []

    def run(arguments):
        asked.append(arguments[0])
        return arguments[0] != failing, f"told\n{arguments[0]} ended\n"

    assert gpu_check.check(tmp_path / "report.md", run) == code
    assert asked == ["pytest", *(f"benchmarks.{name}" for name in gpu_check.BENCHMARKS)]
    report = (tmp_path / "report.md").read_text()
    assert "on Some Card (torch" in report
    assert "- tests: pytest ended" in report
    assert "| bf16 | any | 9,000 | 1.20 | 300 | 61.0 % |" in report
    assert "`python -m benchmarks.warm_overhead`:" in report


def test_figures_come_from_real_trainings(monkeypatch):
    monkeypatch.setitem(gpu_check.TRAINING, "data", {"train_samples": 16})
    monkeypatch.setitem(gpu_check.TRAINING, "optimiser", {"batch_size": 16, "epochs": 1})
    monkeypatch.setitem(gpu_check.PROTOCOL, "samples", {"val": 8})
    monkeypatch.setattr(gpu_check, "ROUNDS", 1)
    found = list(gpu_check.rows(torch.device("cpu")))
    assert [row[:2] for row in found] == [
        ("fp32", "deterministic"),
        ("tf32", "deterministic"),
        ("bf16", "deterministic"),
        ("bf16", "any"),
    ]
    assert all(float(row[2].replace(",", "")) > 0 for row in found)
    assert len(gpu_check.table(found).splitlines()) == 2 + len(found)
