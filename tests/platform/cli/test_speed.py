"""Heavy libraries are imported where they are needed, and only there, so that commands answer at once."""

from __future__ import annotations

import subprocess
import sys

import pytest

from advlora.config import read_yaml
from advlora_platform.shelves import described, shipped

pytestmark = pytest.mark.unit
HEAVY = {"torch", "ray", "mlflow", "optuna", "open_clip", "transformers", "matplotlib", "pandas", "sklearn", "pydantic"}


def imported(*arguments: str) -> set[str]:
    """Returns the heavy libraries that a command has imported at its end."""
    code = (
        "import sys; from advlora_platform.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        f"print(*({HEAVY!r} & set(sys.modules)), file=sys.stderr)"
    )
    answer = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120)
    return set(answer.stderr.split())


@pytest.mark.parametrize("arguments", [["--help"], ["ls"], ["ui", "--help"], ["evaluate", "--help"]])
def test_what_only_names_things_imports_nothing_heavy(arguments):
    assert imported(*arguments) == set()


@pytest.mark.parametrize("arguments", [["keys", "adapter.rank"], ["show", "quickstart"]])
def test_what_only_reads_studies_imports_the_schema_alone(arguments):
    assert imported(*arguments) == {"pydantic"}


def test_a_check_draws_and_runs_nothing():
    code = "import sys, advlora_platform.checking; print(*sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    late = {"ray", "mlflow", "matplotlib", "pandas", "sklearn", "open_clip", "transformers", "peft", "scipy.stats"}
    assert set(answer.stdout.split()) & late == set()


@pytest.mark.parametrize("kind", ["ablation", "sweep"])
def test_descriptions_are_those_of_the_files(kind):
    assert described(kind) == {name: read_yaml(file).get("description", "") for name, file in shipped(kind).items()}
