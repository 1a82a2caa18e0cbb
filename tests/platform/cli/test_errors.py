"""Every mistake a user can make: one clear sentence, exit code 2, no traceback, before compute starts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from advlora.config import ModelConfig
from advlora.models import load_model

pytestmark = pytest.mark.unit
EMBEDDED = Path(__file__).parents[3] / "advlora" / "embedded"


def ablation(folder: Path, **changes) -> Path:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({"kind": "ablation", "name": "s", "arms": {"a": {}}, **changes}))
    return path


@pytest.mark.parametrize(
    ("base", "said"),
    [
        ({"adapter": {"rnk": 4}}, ["base.adapter.rnk", "did you mean 'rank'"]),
        ({"adapter": {"rank": "many"}}, ["adapter.rank", "'many'", "integer"]),
        ({"adapter": {"rank": 4096}}, ["rank", "4096", "128"]),
        ({"adapter": {"init": {"clusters": 4096}}}, ["clusters", "4096", "128"]),
        ({"attack": {"epsilon": 8}}, ["epsilon 8", "8/255"]),
        ({"attack": {"epsilon": -0.1}}, ["attack.epsilon", "-0.1"]),
        ({"model": {"name": "tiny-clop"}}, ["tiny-clop", "did you mean 'tiny-clip'"]),
        ({"model": {"source": "open_clip", "name": "ViT-B-23"}}, ["ViT-B-23", "did you mean 'ViT-B-32'"]),
        ({"data": {"name": "fashion-mnits"}}, ["fashion-mnits", "did you mean 'fashion-mnist'"]),
        ({"data": {"name": "./absent"}}, ["./absent"]),
        ({"data": {"train_samples": 10**6}}, ["train_samples", "1000000", "10000"]),
    ],
)
def test_a_wrong_value_is_one_sentence(advlora, tmp_path, base, said):
    answer = advlora("validate", ablation(tmp_path, base=base))
    assert answer.code == 2
    assert "Traceback" not in answer.err
    lines = [line for line in answer.err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1, answer.err
    for word in said:
        assert word in lines[0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"arms": {"a b": {"adapter.rnk": 4}}}, ["arms.a b", "did you mean 'adapter.rank'"]),
        ({"arms": {"a": {"seed": 4}}}, ["arms.a", "must not differ between arms"]),
        ({"factors": {"f": {"key": "resources.workers"}}}, ["factors.f.key", "must not differ between arms"]),
        ({"factors": {"f": {"key": "adapter.alignmnt.enabled"}}}, ["adapter.alignment.enabled"]),
        ({"base": {"seed": 1}}, ["base.seed", "'seeds'"]),
        ({"tuning": {"parameters": {"adapter.rank": {"type": "int", "low": 4, "high": 2}}}}, ["low 4 is above high 2"]),
        ({"tuning": {"parameters": {"optimiser.learning_rate": {"type": "float", "low": 0.1, "high": 1}},
                     "sampler": "grid"}}, ["needs a 'step' or 'choices'"]),
        ({"base": {"adapter": "full"},
          "tuning": {"parameters": {"adapter.rank": {"type": "int", "low": 1, "high": 2}}}},
         ["tuning.parameters: 'adapter.rank' is tuned in no arm"]),
        ({"arms": {"a": {}, "b": {"adapter.init": "gaussian"}, "full": {"adapter": "full"}},
          "tuning": {"parameters": {"adapter.init": {"type": "categorical", "choices": ["kmeans", "pissa"]},
                                    "adapter.init.axis": {"type": "categorical", "choices": ["rows", "columns"]}}}},
         ["arm 'a': tuning.parameters: adapter.init = pissa does not go with adapter.init.axis = rows", "'when'"]),
        ({"arms": {"a": {"adapter.kind": "full", "adapter.rank": 4}}},
         ["arm 'a': adapter.rank: has no effect with adapter.kind 'full'"]),
        ({"name": "../s"}, ["'../s'", "letters, digits"]),
        ({"protocol": {"attacks": [{"kind": "set-level"}]}}, ["protocol.attacks: 'set-level' aims at captions"]),
        ({"report": ["test/attack_succes_rate"]}, ["report", "did you mean 'test/attack_success_rate'"]),
        ({"protocol": "strnog"}, ["protocol", "did you mean 'strong'"]),
    ],
)  # fmt: skip
def test_a_study_that_makes_no_sense_is_one_sentence(advlora, tmp_path, changes, said):
    answer = advlora("validate", ablation(tmp_path, **changes))
    assert answer.code == 2
    assert answer.err.count("error:") == 1, answer.err
    for word in said:
        assert word in answer.err


def test_an_arm_need_not_take_what_is_tuned_in_others(advlora, tmp_path):
    rank = {"type": "categorical", "choices": [2, 4]}
    weight = {"type": "float", "low": 0.1, "high": 1}
    study = ablation(
        tmp_path,
        factors={"alignment": {"key": "adapter.alignment.enabled"}},
        arms={"full": {"adapter": "full"}, "dora": {"adapter": "dora"}, "pretrained": {"adapter": "none"}},
        tuning={"parameters": {"adapter.rank": rank, "adapter.alignment.weight": weight}, "trials": 3},
    )
    answer = advlora("validate", study)
    assert answer.code == 0, answer.err


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("search.objectives=[robsut]", "did you mean 'robust'"),
        ("protocol.interval=0", "ASHA"),
        ("search.sampler=grid", "needs a 'step' or 'choices'"),
        (
            "confirm={protocol: {attacks: [{kind: set-level}]}}",
            "confirm.protocol.attacks: 'set-level' aims at captions",
        ),
    ],
)
def test_a_sweep_that_makes_no_sense_is_one_sentence(advlora, override, said):
    from advlora_platform.study.library import find

    answer = advlora("validate", find("advlora", "sweep"), "--set", override)
    assert answer.code == 2
    assert answer.err.count("error:") == 1, answer.err
    assert said in answer.err


RENAMED = [
    ("adapter.start", "svd", "write adapter.init"),
    ("adapter.also", ["norms"], "write adapter.modules_to_save"),
    ("adapter.clustering.enabled", False, "write adapter.init: kmeans, or gaussian where it was off"),
    ("adapter.clustering.algorithm", "random", "write adapter.init: kmeans, spherical_kmeans or random_clusters"),
    ("adapter.clustering.clusters", 4, "write adapter.init.clusters"),
    ("adapter.adalora.warmup", 0.2, "write adapter.warmup"),
    ("adapter.init", "svd", "adapter.init.kind: 'svd' is not allowed; write 'pissa'"),
    ("adapter.init", "minor_svd", "adapter.init.kind: 'minor_svd' is not allowed; write 'milora'"),
]


def nested(key: str, value: object) -> dict:
    head, _, rest = key.partition(".")
    return {head: nested(rest, value) if rest else value}


@pytest.mark.parametrize(("key", "value", "said"), RENAMED)
@pytest.mark.parametrize("place", ["base", "--set", "factors", "arms", "tuning", "parameters"])
def test_an_old_name_is_refused_with_the_new_one(advlora, tmp_path, key, value, said, place):
    choices = {key: {"type": "categorical", "choices": ["norms" if isinstance(value, list) else value]}}
    changes = {
        "base": {"base": nested(key, value)},
        "factors": {"factors": {"f": {"key": key, "on": value, "off": value}}},
        "arms": {"arms": {"a": {}, "b": {key: value}}},
        "tuning": {"tuning": {"parameters": choices, "trials": 1}},
    }.get(place, {})
    study = ablation(tmp_path, **changes)
    if place == "parameters":
        study.write_text(yaml.safe_dump({"kind": "sweep", "name": "s", "parameters": choices}))
    answer = advlora("validate", study, *(["--set", f"{key}={json.dumps(value)}"] if place == "--set" else []))
    assert answer.code == 2
    assert answer.err.count("error:") == 1, answer.err
    assert said in answer.err


def test_all_problems_come_at_once(advlora, tmp_path):
    base = {"adapter": {"rnk": 4, "rank": 0}, "attack": {"kind": "pdg"}}
    answer = advlora("validate", ablation(tmp_path, base=base), "--json")
    assert answer.code == 2
    errors = json.loads(answer.out)["errors"]
    assert len(errors) == 3
    assert any("did you mean 'pgd'" in error for error in errors)


def test_a_corrupt_shard_is_named(advlora, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(EMBEDDED / "fashion-mnist", data)
    shard = data / "val-000000.tar.gz"
    shard.write_bytes(shard.read_bytes()[:50_000])
    answer = advlora("validate", ablation(tmp_path, base={"data": {"name": str(data)}}))
    assert answer.code == 2
    assert "val-000000.tar.gz" in answer.err
    assert answer.err.count("error:") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ablat", "quickstart"], "did you mean 'ablate'"),
        (["ablate", "quickstrat"], "did you mean 'quickstart'"),
        (["ablate", "absent.yaml"], "does not exist"),
        (["ablate", "quickstart", "--set", "adapter.rank"], "key=value"),
        (["ablate", "quickstart", "--set", "adaptor.rank=4"], "did you mean 'adapter'"),
        (["ablate", "quickstart", "--set", "adapter.rank=0"], "adapter.rank"),
        (["sweep", "quickstart", "--set", "search.sampler=tpee"], "did you mean 'tpe'"),
        (["train", "absent.yaml"], "absent.yaml"),
        (["lowrank", "absent"], "no study folder 'absent'"),
        (["lowrank", "--ranks", "1,x"], "'1,x' must be whole numbers"),
        (["lowrank", "low_rank", "--set", "seeds=[0]"], "belong to the training of a new study"),
        (["export", "absent"], "no study folder 'absent'"),
        (["report", "absent"], "no study folder 'absent'"),
        (["evaluate", "tiny-clop"], "tiny-clop"),
        (["evaluate", "tiny-clip", "--protocol", "absent.yaml"], "absent.yaml"),
        (["evaluate", "absent/", "--base", "tiny-clop"], "did you mean 'tiny-clip'"),
        (["compare", "absent.json", "absent.json"], "cannot read absent.json"),
    ],
)
def test_a_wrong_command_is_one_sentence(advlora, arguments, said):
    answer = advlora(*arguments)
    assert answer.code == 2
    assert said in answer.err
    assert "Traceback" not in answer.err


@pytest.mark.parametrize(
    "verb",
    [
        "ablate",
        "sweep",
        "train",
        "evaluate",
        "compare",
        "lowrank",
        "report",
        "export",
        "push",
        "plan",
        "ui",
        "keys",
        "show",
        "new",
        "schema",
        "ls",
        "validate",
    ],
)
def test_every_verb_shows_an_example(advlora, verb):
    answer = advlora(verb, "--help")
    assert answer.code == 0
    assert f"Example: advlora {verb}" in answer.out


def test_shipped_studies_are_listed_and_valid(advlora, tmp_path):
    load_model(ModelConfig()).save(tmp_path / "runs/poisoned/model/merged")  # what `backdoor` starts from
    shelves = json.loads(advlora("ls", "--json").out)
    assert "tiny-clip" in shelves["models"]
    assert "fashion-mnist" in shelves["data"]
    for name in [*shelves["ablations"], *shelves["search_spaces"]]:
        assert advlora("validate", name).code == 0


def test_errors_are_an_object_only_where_the_option_asks_for_one(advlora):
    asked = advlora("ablate", "absent.yaml", "--json")
    assert json.loads(asked.out)["errors"] == ["study file 'absent.yaml' does not exist"]
    value = advlora("ablate", "absent.yaml", "--set", "--json")  # the value of another option
    assert (value.code, value.out) == (2, "")


def test_the_help_of_evaluate_names_every_shipped_protocol(advlora):
    from advlora_platform.shelves import shipped_protocols

    said = " ".join(advlora("evaluate", "--help").out.split())
    assert ", ".join(shipped_protocols()) in said
    assert "retrieval" in shipped_protocols()
