"""Measures the structure of the two packages: sizes, types, docstrings, comments, and how tests compare with sources.

Usage:
    python -m scripts.structure [--repo FOLDER]

Files under ten lines are left out. Prints a Markdown table, and what a reader of `launch.py` and of a study meets.
"""

from __future__ import annotations

import argparse
import ast
import io
import statistics
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

PACKAGES = {"advlora": "advlora", "platform": "platform/advlora_platform"}
HEADINGS = (
    "package",
    "modules",
    "lines",
    "module lines median / p90 / max",
    "function lines median / p90 / max",
    "doc %",
    "annot %",
    "functions with >= 6 / >= 8 parameters",
    "modules < 40 lines",
    "comments per 100 lines",
)
SMALLEST = 10
"""Files with fewer lines say nothing about size."""


@dataclass
class Measured:
    """What one package adds up to."""

    modules: list[int] = field(default_factory=list)
    functions: list[int] = field(default_factory=list)
    parameters: list[int] = field(default_factory=list)
    documented: list[bool] = field(default_factory=list)
    annotated: list[bool] = field(default_factory=list)
    comments: int = 0
    imports: dict[str, int] = field(default_factory=dict)

    def row(self, name: str) -> str:
        """Writes a row of the table."""
        small = sum(lines < 40 for lines in self.modules) / len(self.modules)
        many = [sum(count >= least for count in self.parameters) / len(self.parameters) for least in (6, 8)]
        columns = (
            name,
            str(len(self.modules)),
            str(sum(self.modules)),
            _spread(self.modules),
            _spread(self.functions),
            f"{_percent(self.documented):.0f}",
            f"{_percent(self.annotated):.0f}",
            " / ".join(f"{100 * share:.1f} %" for share in many),
            f"{100 * small:.0f} %",
            f"{100 * self.comments / sum(self.modules):.1f}",
        )
        return f"| {' | '.join(columns)} |"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repo", type=Path, default=Path(__file__).parents[1])
    repo = parser.parse_args().repo
    print(f"| {' | '.join(HEADINGS)} |")
    print("|" + "---|" * len(HEADINGS))
    for name, folder in PACKAGES.items():
        print(measure(repo / folder).row(name))
    tests, sources = (sum(_lines(repo / part) for part in parts) for parts in (("tests",), PACKAGES.values()))
    print(f"\ntest lines per source line: {tests / sources:.2f}")
    print(
        f"rooms of advlora (folders with code): {len(_rooms(repo / 'advlora'))}: {', '.join(_rooms(repo / 'advlora'))}"
    )
    launch = measure(repo / PACKAGES["platform"]).imports.get("launch.py")
    print(f"internal imports of launch.py: {launch}")
    asked = list(_questions(repo / PACKAGES["platform"]))
    print(f"places that ask for the kind of a study: {len(asked)}: {', '.join(asked)}")


def measure(folder: Path) -> Measured:
    """Measures every module below a folder."""
    found = Measured()
    for file in sorted(folder.rglob("*.py")):
        text = file.read_text()
        lines = text.count("\n")
        if lines < SMALLEST:
            continue
        tree = ast.parse(text)
        found.modules.append(lines)
        found.comments += sum(token.type == tokenize.COMMENT for token in _tokens(text))
        found.imports[file.relative_to(folder).as_posix()] = _internal_imports(tree)
        found.documented += [bool(ast.get_docstring(node)) for node in _public(tree)]
        for function in _functions(tree):
            arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
            own = [argument for argument in arguments if argument.arg not in {"self", "cls"}]
            found.functions.append((function.end_lineno or function.lineno) - function.lineno + 1)
            found.parameters.append(len(own))
            found.annotated.append(all(argument.annotation for argument in own) and function.returns is not None)
    return found


def _questions(folder: Path) -> Iterator[str]:
    """Yields where code asks which of two kinds a study, or its summary, is."""
    for file in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            text = ast.unparse(node) if isinstance(node, ast.Call | ast.Compare | ast.IfExp) else ""
            instance = isinstance(node, ast.Call) and text.startswith("isinstance(") and "Study" in text.split(",")[-1]
            hole = isinstance(node, ast.Compare) and text.endswith((".sweep is None", ".sweep is not None"))
            if instance or hole:
                yield f"{file.relative_to(folder)}:{node.lineno}"  # type: ignore[attr-defined]


def _tokens(text: str) -> Iterator[tokenize.TokenInfo]:
    yield from tokenize.generate_tokens(io.StringIO(text).readline)


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def _public(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef):
            yield from (item for item in node.body if isinstance(item, kinds) and not item.name.startswith("_"))


def _internal_imports(tree: ast.Module) -> int:
    names = (node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
    return sum(name.partition(".")[0] in {"advlora", "advlora_platform"} for name in names)


def _rooms(package: Path) -> list[str]:
    return sorted(
        {path.parent.relative_to(package).parts[0] for path in package.rglob("*.py") if path.parent != package}
    )


def _lines(folder: Path) -> int:
    return sum(file.read_text().count("\n") for file in folder.rglob("*.py"))


def _spread(values: list[int]) -> str:
    return f"{statistics.median(values):g} / {statistics.quantiles(values, n=10)[-1]:.0f} / {max(values)}"


def _percent(flags: list[bool]) -> float:
    return 100 * sum(flags) / len(flags)


if __name__ == "__main__":
    main()
