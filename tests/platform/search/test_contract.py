from __future__ import annotations

import importlib
import pkgutil

import pytest

import advlora_platform.search
from advlora_platform.search.contract import StudySearcher
from tests.platform.search import test_ablation, test_listed, test_sweep

pytestmark = pytest.mark.unit


def searchers(base: type = StudySearcher) -> set[type]:
    """Every class of the package that fulfils the contract."""
    found = {each for each in base.__subclasses__() if each.__module__.startswith("advlora_platform.")}
    return found.union(*(searchers(each) for each in found))


def test_every_searcher_passes_the_conformance_suite():
    for module in pkgutil.iter_modules(advlora_platform.search.__path__, "advlora_platform.search."):
        importlib.import_module(module.name)
    tested = {module.TestContract.searcher for module in (test_ablation, test_sweep, test_listed)}
    assert searchers() == tested


def test_a_searcher_that_cannot_count_cannot_be_made():
    class Blind(StudySearcher):
        pass

    with pytest.raises(TypeError, match="remaining"):
        Blind()
