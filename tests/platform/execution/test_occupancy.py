from __future__ import annotations

import pytest

from advlora.config import ResourcesConfig
from advlora_platform.execution.occupancy import Occupancy
from advlora_platform.execution.resources import Node, slot_bundles

pytestmark = pytest.mark.unit
GIB = 2**30
WHOLE, EMPTY = Node(4, 2, 64 * GIB), Node(0, 0, 64 * GIB)
ONE, PAIR = ResourcesConfig(), ResourcesConfig(workers=2)


def slots(number, resources=ONE):
    return tuple(bundle for _ in range(number) for bundle in slot_bundles(resources))


@pytest.mark.parametrize(
    ("resources", "free", "held", "room"),
    [
        (ONE, [WHOLE], (), 4),
        (ONE, [EMPTY], slots(3), 3),
        (ONE, [EMPTY, WHOLE], slots(3), 7),
        (ONE, [EMPTY], (), 0),
        (ONE, [], (), 0),
        (ResourcesConfig(gpus_per_worker=0.5), [WHOLE], (), 4),
        (ResourcesConfig(gpus_per_worker=1), [WHOLE], (), 2),
        (PAIR, [Node(1, 0, 64 * GIB)], ({"CPU": 1},), 1),
        (PAIR, [EMPTY], (*slots(2, PAIR), {"CPU": 1}, {"CPU": 1}), 1),
    ],
)
def test_there_is_room_for_what_is_held_and_for_what_is_free(resources, free, held, room):
    assert Occupancy(nodes=(WHOLE,), free=tuple(free), held=held).room(resources) == room


def test_memory_that_others_hold_leaves_no_room():
    big = ResourcesConfig(memory_gb_per_worker=40)
    (_, worker) = slot_bundles(big)
    assert worker["memory"] == 40 * GIB
    assert Occupancy(nodes=(WHOLE,), free=(Node(3, 2, 24 * GIB),), held=slots(1, big)).room(big) == 1


def test_a_lack_names_what_is_wanted_where_it_is_and_who_else_is_there():
    wanted = tuple(slot_bundles(ResourcesConfig(gpus_per_worker=1)))
    seen = Occupancy(
        nodes=(WHOLE,),
        free=(Node(1, 0, 8 * GIB),),
        held=({"CPU": 1, "GPU": 1},),
        awaited=wanted,
        others=("'train.py'",),
    )
    assert seen.lack() == (
        "1 CPU, 1 GPU, 1.15 GB of memory (CPU: 1 of 4 free, 1 held by this study; GPU: 0 of 2 free, 1 held by this "
        "study; GB of memory: 8 of 64 free, 0 held by this study; others on the cluster: 'train.py')"
    )
    assert Occupancy(nodes=(WHOLE,), free=(WHOLE,)).lack() == ""
