"""Every kind of adapter and every initialisation has all that it needs; one that lacks something is found here."""

from __future__ import annotations

import pytest

from advlora.adapters.inits import INITS
from advlora.adapters.methods import METHODS, LowRankMethod, method_of
from advlora.config import InitConfig, LowRankAdapter, TrialConfig, parse
from advlora.config.adapters import Adapter, NoAdapter
from advlora.config.inits import ClusterInit, Init
from advlora.config.schema import kind_name, nested, sections
from advlora.training.cost import step_forwards

pytestmark = pytest.mark.unit

KINDS = nested(TrialConfig.model_fields["adapter"])
STARTS = sections(InitConfig)


def below(parent: type) -> set[type]:
    """Every class below another that is a method, and not only a base of some."""
    found = {each for child in parent.__subclasses__() for each in below(child)}
    return found | ({parent} if kind_name(parent) else set())


def test_every_class_is_a_member_of_its_union():
    assert below(Adapter) == set(KINDS)
    assert below(Init) == set(STARTS)


def test_every_kind_has_its_runner_and_no_runner_is_left_over():
    assert set(METHODS) == set(KINDS)
    assert set(INITS) == set(STARTS)


@pytest.mark.parametrize("kind", KINDS, ids=kind_name)
def test_every_kind_of_adapter_has_a_title_a_cost_and_a_fitting_runner(kind):
    config = parse(TrialConfig, {"adapter": kind_name(kind)})
    assert kind.title
    assert config.adapter.label
    assert (kind.step_forwards == 0) == (not kind.trains) == (step_forwards(config) == 0)
    assert isinstance(method_of(config.adapter), LowRankMethod) == issubclass(kind, LowRankAdapter)


def test_every_title_is_there_once():
    for family in (KINDS, STARTS):
        assert len({each.title for each in family}) == len(family)


def test_cost_of_a_step_without_an_attack():
    costs = {kind_name(kind): kind.step_forwards for kind in KINDS}
    assert costs == {"lora": 2, "dora": 2, "adalora": 2, "full": 3, "norms": 2, "linear_probe": 1, "none": 0}
    assert not NoAdapter.trains


@pytest.mark.parametrize("start", STARTS, ids=kind_name)
def test_every_initialisation_keeps_the_function_and_is_exact_about_zero(start, make, pretrained, images):
    adapted = make(init=kind_name(start), alignment={"enabled": False})
    difference = adapted.model.encode_images(images) - pretrained.encode_images(images)
    assert difference.abs().max() < 1e-5
    anchors = [layer.anchors["default"] for layer in adapted.layers.values()]
    assert {bool(anchor.b0.any()) for anchor in anchors} == {not start.from_zero}
    assert not start.clustered or issubclass(start, ClusterInit)
