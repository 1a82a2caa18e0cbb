"""Everything that only a GPU can show, in one command: the tests marked `gpu`, then figures, in one small report.

    make gpu-check

Ends with code 2 and one sentence where torch sees no GPU, with code 1 if a test or a benchmark fails. The report,
`gpu-check.md`, is written to be pasted into docs/performance.md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch

from advlora.config import EvaluationProtocol, TrialConfig, parse, vary
from advlora.training.trainer import fine_tune
from advlora.training.workbench import Workbench

NO_GPU = "gpu-check needs an NVIDIA GPU, and torch sees none here"
BENCHMARKS = ("attack_step", "random_numbers", "warm_overhead")
"""Modules beside this one; their output goes into the report."""
TRAINING: dict[str, Any] = {
    "data": {"train_samples": 4096},
    "optimiser": {"batch_size": 256, "epochs": 2},
    "resources": {"gpus_per_worker": 1},
}
PROTOCOL = {
    "attacks": [{"kind": "apgd-ce", "steps": 20}],
    "samples": {"val": 500},
    "batch_size": 500,
    "interval": 0,
    "guards": {"enabled": False},
}
MODES: tuple[dict[str, Any], ...] = (
    {"precision": "fp32"},
    {"precision": "tf32"},
    {"precision": "bf16"},
    {"precision": "bf16", "deterministic": False},
)
ROUNDS = 3
Row = tuple[str, ...]


def rows(device: torch.device) -> Iterator[Row]:
    """Yields precision, kernels, images per second, operations per second, peak memory and robust accuracy.

    Rounds are interleaved; the first, which warms kernels up, is not counted.
    """
    bench, protocol = Workbench(), parse(EvaluationProtocol, PROTOCOL)
    found: dict[int, list[dict[str, float]]] = {number: [] for number in range(len(MODES))}
    for _ in range(ROUNDS + 1):
        for number, mode in enumerate(MODES):
            config = parse(TrialConfig, vary(TrialConfig, TRAINING, mode))
            *_, last = fine_tune(config, protocol, bench=bench, device=device, guarded=False)
            found[number].append(last.metrics)
    images = TRAINING["data"]["train_samples"] * TRAINING["optimiser"]["epochs"]
    for mode, measured in zip(MODES, found.values(), strict=True):
        seconds = median(metrics["cost/seconds"] for metrics in measured[1:])
        last_metrics = measured[-1]
        yield (
            mode["precision"],
            "deterministic" if mode.get("deterministic", True) else "any",
            f"{images / seconds:,.0f}",
            f"{last_metrics['cost/flops'] / seconds / 1e12:.2f}",
            f"{last_metrics['cost/peak_memory_mb']:.0f}",
            f"{100 * next(v for name, v in last_metrics.items() if name.startswith('val/robust')):.1f} %",
        )


def table(body: list[Row]) -> str:
    """Writes rows as Markdown."""
    head = ("training", "kernels", "images/s", "TFLOP/s", "peak MB", "robust on val")
    lines = [head, ("---",) * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def report(card: str, seconds: float, tests: str, body: list[Row], outputs: dict[str, str]) -> str:
    """Writes what was found, with the card's name."""
    versions = f"torch {torch.__version__}, CUDA {torch.version.cuda}"
    parts = [
        f"`make gpu-check` on {card} ({versions}), {seconds:.0f} s:",
        f"- tests: {tests}",
        "\nAdversarial LoRA of the embedded model, PGD-2, batches of 256, median of three interleaved rounds:\n",
        table(body),
        *(f"\n`python -m benchmarks.{name}`:\n\n```\n{output.strip()}\n```" for name, output in outputs.items()),
    ]
    return "\n".join(parts) + "\n"


def run(arguments: list[str]) -> tuple[bool, str]:
    """Runs a module of Python and shows what it prints; returns whether it ended well, and what it printed."""
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None, "it is a pipe"
    lines = []
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line)
    return process.wait() == 0, "".join(lines)


def check(file: Path, run: Callable[[list[str]], tuple[bool, str]] = run) -> int:
    """Tests, measures and writes the report; returns the exit code."""
    if not torch.cuda.is_available():
        print(NO_GPU, file=sys.stderr)
        return 2
    begin = time.perf_counter()
    passed, tests = run(["pytest", "-m", "gpu", "-q"])
    good, outputs = passed, {}
    for name in BENCHMARKS:
        worked, outputs[name] = run([f"benchmarks.{name}"])
        good = good and worked
    body = list(rows(torch.device("cuda", 0)))
    seconds = time.perf_counter() - begin
    file.write_text(report(torch.cuda.get_device_name(), seconds, tests.strip().splitlines()[-1], body, outputs))
    print(f"\nreport in {file}")
    return 0 if good else 1


def main() -> None:
    """Checks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu-check.md"))
    sys.exit(check(parser.parse_args().out))


if __name__ == "__main__":
    main()
