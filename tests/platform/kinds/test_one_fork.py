"""Which kind a study is is asked in one place: elsewhere one asks the study, or its class in `kinds`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import advlora_platform
from advlora_platform.analysis import AblationSummary, Summary, SweepSummary
from advlora_platform.kinds import KINDS, StudyKind, kind_of
from advlora_platform.study.library import SCHEMAS, load_study
from advlora_platform.study.spec import Study

pytestmark = pytest.mark.unit

ROOT = Path(advlora_platform.__path__[0])
ALLOWED = {"kinds/ablation.py", "kinds/sweep.py", "study/library.py"}
CLASSES = {
    each.__name__
    for each in (Study, Summary, StudyKind, AblationSummary, SweepSummary, *KINDS, *KINDS.values(), *SCHEMAS.values())
}
CHECKS = ("isinstance", "issubclass")


def forks(source: str) -> Iterator[str]:
    """Yields the expressions that tell kinds apart: by class, by name, or by a part that only one of them has."""
    for node in ast.walk(ast.parse(source)):
        by_class = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CHECKS
        if (
            (by_class and words(node.args[1]) & CLASSES)
            or (isinstance(node, ast.Compare) and (words(node) & {*CLASSES, *SCHEMAS} or missing_part(node)))
            or (isinstance(node, ast.match_case) and words(node.pattern) & {*CLASSES, *SCHEMAS})
        ):
            yield ast.unparse(node)


def words(node: ast.AST) -> set[str]:
    """Returns the names of classes, and the texts, that occur in an expression."""
    found = {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and each.id in CLASSES}
    found |= {each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute) and each.attr in CLASSES}
    return found | {each.value for each in ast.walk(node) if isinstance(each, ast.Constant) if each.value in SCHEMAS}


def missing_part(node: ast.Compare) -> bool:
    """Whether it is asked if a summary has a `sweep`."""
    parts = [each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)]
    none = any(isinstance(each, ast.Constant) and each.value is None for each in node.comparators)
    return none and "sweep" in parts


def test_nobody_else_asks_which_kind_a_study_is():
    modules = {str(path.relative_to(ROOT)): path.read_text() for path in ROOT.rglob("*.py")}
    assert modules.keys() >= ALLOWED
    found = {name: list(forks(source)) for name, source in modules.items() if name not in ALLOWED}
    assert {name: each for name, each in found.items() if each} == {}


@pytest.mark.parametrize(
    "source",
    [
        "isinstance(study, AblationStudy)",
        "isinstance(study, (int, spec.SweepStudy))",
        "study.kind == 'ablation'",
        "'sweep' != study.kind",
        "study.kind in ('ablation', 'sweep')",
        "type(summary) is AblationSummary",
        "summary.sweep is None",
        "match study.kind:\n    case 'sweep': pass",
        "match study:\n    case AblationStudy(): pass",
    ],
)
def test_a_fork_is_found(source):
    assert len(list(forks(source))) == 1


@pytest.mark.parametrize(
    "source",
    ["isinstance(observer, Expectant)", "kind == 'trial'", "settings.kind == 'asha'", "sweep is None", "load('sweep')"],
)
def test_other_questions_are_no_forks(source):
    assert list(forks(source)) == []


def test_every_schema_has_its_kind():
    assert set(SCHEMAS.values()) == set(KINDS)
    for kind in SCHEMAS:
        study = load_study("quickstart", kind)
        assert type(kind_of(study)) is KINDS[type(study)]
        assert kind_of(study).study is study
