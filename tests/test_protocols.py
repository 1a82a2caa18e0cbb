from __future__ import annotations

import pytest

from advlora.attacks import expanded
from advlora.identity import fingerprint
from advlora.metrics import Metric
from advlora.training.cost import evaluation_forwards
from advlora_platform.measure import read_protocol
from advlora_platform.shelves import shipped_protocols

pytestmark = pytest.mark.unit

NAMES = ("quick", "standard", "strong", "autoattack", "autoattack_plus")
"""Of classifiers, from cheap to dear."""
ALL = (*NAMES, "retrieval", "retrieval_strong")


def test_every_shipped_protocol_is_found_by_name_and_is_a_version_of_its_own():
    assert set(shipped_protocols()) == set(ALL)
    hashes = {fingerprint(read_protocol(name).model_dump(mode="json")) for name in ALL}
    assert len(hashes) == len(ALL)


def test_a_stronger_protocol_costs_more_per_image():
    costs = [evaluation_forwards(read_protocol(name), "test") / read_protocol(name).samples.test for name in NAMES]
    assert costs[0] < costs[1] < costs[2] < costs[3] < costs[4]


def test_all_of_them_measure_the_same_main_strength():
    assert {str(Metric.robust("test", read_protocol(name).epsilon)) for name in ALL} == {"test/robust_r1:8_255"}


def test_they_are_the_attacks_that_their_names_promise():
    kinds = {name: [attack.kind for attack in expanded(read_protocol(name).attacks)] for name in NAMES}
    assert kinds["quick"] == ["pgd"]
    assert kinds["strong"] == ["apgd-ce", "apgd-t"]
    assert [attack.kind for attack in read_protocol("retrieval").attacks] == ["pgd", "set-level"]
    strong = [(attack.kind, attack.heading) for attack in expanded(read_protocol("retrieval_strong").attacks)]
    directed = [(kind, way) for kind in ("apgd-ce", "apgd") for way in ("image_to_text", "text_to_image")]
    assert strong == [*directed, ("set-level", None)]
    assert kinds["autoattack"] == ["apgd-ce", "apgd-t", "fab-t", "square"]
    assert set(kinds["autoattack"]) < set(kinds["autoattack_plus"])
