"""Which room may import which: only rooms below its own, and no circle between modules.

Every import counts: at the top of a module, inside a function, and those for types only.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit
ROOT = Path(__file__).parents[1]
PACKAGES = {"advlora": ROOT / "advlora", "advlora_platform": ROOT / "platform" / "advlora_platform"}

ROOMS = {
    "advlora": [
        ["errors", "randomness", "distributed", "metrics", "progress", "text", "shelves"],
        ["reading", "kept"],
        ["config"],
        ["identity", "models", "numerics"],
        ["data"],
        ["adapters", "attacks"],
        ["evaluation"],
        ["losses"],
        ["check"],
        ["training"],
        ["api"],
    ],
    "advlora_platform": [
        ["shelves"],
        ["study"],
        ["search"],
        ["analysis", "execution"],
        ["tracking", "export"],
        ["measure"],
        ["report"],
        ["kinds", "probe"],
        ["launch", "checking", "planning"],
        ["lowrank", "training", "doctor", "packing", "choosing", "cleaning"],
        ["verifying", "cluster", "sharing", "api"],
        ["cli"],
        ["__main__"],
    ],
}
"""From the foundations up. Rooms of one storey do not know each other."""


@cache
def modules() -> dict[str, Path]:
    """Name -> file of every module."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in folder.rglob("*.py"):
            parts = (package, *path.relative_to(folder).with_suffix("").parts)
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


@cache
def imports(module: str) -> dict[str, int]:
    """Module that is imported -> line, of all of ours that a module imports anywhere."""
    found: dict[str, int] = {}
    for node in ast.walk(ast.parse(modules()[module].read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.module, f"{module}:{node.lineno} is a relative import"
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in modules() else node.module for name in inside]
        else:
            continue
        for name in names:
            if name in modules():
                found.setdefault(name, node.lineno)
    return found


def room_of(module: str) -> tuple[str, str]:
    package, _, rest = module.partition(".")
    return package, rest.partition(".")[0]


@pytest.mark.parametrize("package", ROOMS)
def test_every_room_has_its_place(package):
    rooms = {room_of(module)[1] for module in modules() if room_of(module)[0] == package} - {""}
    listed = [room for storey in ROOMS[package] for room in storey]
    empty = {"embedded"}  # holds files, no code
    assert sorted(listed) == sorted(rooms - empty)


@pytest.mark.parametrize("package", ROOMS)
def test_a_room_imports_only_rooms_below_it(package):
    storey = {room: number for number, storey in enumerate(ROOMS[package]) for room in storey}
    wrong = []
    for module in modules():
        (home, room), targets = room_of(module), imports(module)
        if home != package or room not in storey:
            continue
        for target, line in targets.items():
            theirs, other = room_of(target)
            if theirs == package and other in storey and other != room and storey[other] >= storey[room]:
                wrong.append(f"{module}:{line} imports {target}")
    assert wrong == []


def test_the_method_imports_nothing_of_the_platform():
    wrong = [
        f"{module}:{line} imports {target}"
        for module in modules()
        for target, line in imports(module).items()
        if room_of(module)[0] == "advlora" and room_of(target)[0] == "advlora_platform"
    ]
    assert wrong == []


def test_no_circle_leads_from_a_module_back_to_itself():
    assert [" -> ".join(circle) for circle in circles({name: list(imports(name)) for name in modules()})] == []


def circles(graph: dict[str, list[str]]) -> list[list[str]]:
    """Returns one circle through every module that lies on any, found in depth."""
    found, done = [], set()

    def visit(name: str, path: list[str]) -> None:
        if name in path:
            found.append([*path[path.index(name) :], name])
        elif name not in done:
            for other in graph[name]:
                visit(other, [*path, name])
            done.add(name)

    for name in graph:
        visit(name, [])
    return found


def test_a_circle_is_found():
    assert circles({"a": ["b"], "b": ["c"], "c": ["b"]}) == [["b", "c", "b"]]
    assert circles({"a": ["b", "c"], "b": ["c"], "c": []}) == []
