from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit
ROOT = Path(__file__).parents[2]


def imported(folder: Path) -> set[str]:
    names = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.partition(".")[0])
    return names


def test_the_method_knows_nothing_of_the_orchestration():
    assert imported(ROOT / "advlora") & {"ray", "mlflow", "optuna", "advlora_platform"} == set()
    assert {"ray", "mlflow", "optuna", "advlora"} <= imported(ROOT / "platform" / "advlora_platform")


def test_importing_the_package_is_cheap():
    code = "import advlora, advlora.config, sys; print([m for m in ('torch', 'open_clip', 'peft') if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_the_standard_library_keeps_its_platform_module():
    assert not (ROOT / "platform" / "__init__.py").exists()
    code = "import platform; print(platform.system())"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert answer.stdout.strip()


def test_every_package_is_listed_for_installation():
    import tomllib

    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = set()
    for name, folder in setuptools["package-dir"].items():
        base = ROOT / folder
        for module in base.rglob("*.py"):
            found.add(".".join((name, *module.parent.relative_to(base).parts)))
    assert found == set(setuptools["packages"])


def test_shipped_files_stay_small():
    embedded = ROOT / "advlora" / "embedded"
    assert sum(path.stat().st_size for path in embedded.rglob("*") if path.is_file()) <= 25_000_000
