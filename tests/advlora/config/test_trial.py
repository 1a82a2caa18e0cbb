"""Two configurations are the same trial exactly when no number can differ between them."""

from __future__ import annotations

import pytest

from advlora.config import TrialConfig, all_keys, parse, vary
from advlora.config.trial import ResourcesConfig
from advlora.errors import ConfigError
from advlora.identity import fingerprint

pytestmark = pytest.mark.unit

BASE = {"adapter": {"rank": 4}, "attack": {"kind": "pgd", "steps": 3}}
PRETRAINED = vary(TrialConfig, BASE, {"adapter": "none"})
UNUSED = {
    "resources.memory_gb_per_worker": 64,
    "resources.cpus_per_worker": 8,
    "resources.gpus_per_worker": 0.5,
    "data.store": "disk",
}


def identity(values, base=BASE) -> str:
    return fingerprint(parse(TrialConfig, vary(TrialConfig, base, values)).identity())


@pytest.mark.parametrize(("key", "value"), UNUSED.items())
def test_what_no_number_depends_on_is_left_out(key, value):
    assert identity({key: value}) == identity({})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", 1),
        ("adapter.rank", 5),
        ("adapter.init", "gaussian"),
        ("adapter.init.clusters", 3),
        ("adapter.alignment.weight", 0.5),
        ("adapter.adaptive.enabled", False),
        ("adapter.kind", "full"),
        ("attack.steps", 4),
        ("attack.kind", "none"),
        ("optimiser.learning_rate", 1e-4),
        ("precision", "bf16"),
        ("deterministic", False),
        ("data.train_samples", 7),
        ("data.poison", {"kind": "badnets", "target": "bag"}),
        ("model.name", "other"),
        ("resources.workers", 2),  # gradients are summed in another order
    ],
)
def test_what_numbers_depend_on_is_told_apart(key, value):
    assert identity({key: value}) != identity({})


@pytest.mark.parametrize(
    "values",
    [
        {"attack.kind": "none"},
        {"attack.steps": 7},
        {"loss.kind": "contrastive"},
        {"optimiser.epochs": 9},
        {"precision": "bf16"},
        {"deterministic": False},
    ],
    ids=str,
)
def test_how_nothing_is_trained_does_not_matter(values):
    assert identity(values, PRETRAINED) == identity({}, PRETRAINED)
    assert identity({"seed": 1}, PRETRAINED) != identity({}, PRETRAINED)
    assert identity({"data.train_samples": 7}, PRETRAINED) != identity({}, PRETRAINED)


def test_how_a_configuration_is_written_does_not_matter():
    assert identity({}, {**BASE, "adapter": {"kind": "lora", "rank": 4, "init": "kmeans"}}) == identity({})
    assert identity({"adapter.alignment.enabled": False, "adapter.alignment.at": "both"}) == identity(
        {"adapter.alignment.enabled": False}
    )


def test_every_key_of_the_resources_but_the_workers_is_known_to_change_nothing():
    known = {key for key in UNUSED if key.startswith("resources.")}
    assert known | {"resources.workers"} == {f"resources.{key}" for key in ResourcesConfig.model_fields}
    assert set(UNUSED) <= set(all_keys(TrialConfig))


def test_tf32_needs_a_gpu():
    with pytest.raises(ConfigError, match="precision: 'tf32' has no effect without a GPU"):
        parse(TrialConfig, {"precision": "tf32"})
    config = parse(TrialConfig, {"precision": "tf32", "resources": {"gpus_per_worker": 0.5}})
    assert config.identity() != parse(TrialConfig, {}).identity()


@pytest.mark.parametrize(("gpus", "said"), [(1.5, "use 1 or 2"), (2.25, "use 2 or 3"), (1e-5, "at most 10000 workers")])
def test_a_worker_takes_whole_gpus_or_a_part_of_one(gpus, said):
    with pytest.raises(ConfigError, match=rf"resources\.gpus_per_worker: {gpus:g} is not allowed: .*{said}"):
        parse(TrialConfig, {"resources": {"gpus_per_worker": gpus}})
    for allowed in (0, 0.25, 1, 2):
        parse(TrialConfig, {"resources": {"gpus_per_worker": allowed}})


def test_several_workers_do_not_share_a_gpu():
    with pytest.raises(ConfigError, match=r"gpus_per_worker: 0\.5 does not go with workers: 2") as refused:
        parse(TrialConfig, {"resources": {"workers": 2, "gpus_per_worker": 0.5}})
    assert len(refused.value.problems) == 1
    for workers, gpus in ((2, 1), (2, 0), (1, 0.5)):
        parse(TrialConfig, {"resources": {"workers": workers, "gpus_per_worker": gpus}})
