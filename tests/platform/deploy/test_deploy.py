"""The deployments keep the published schemas, and say the same thing wherever they say it twice."""

from __future__ import annotations

import copy
import json
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import ray
import yaml

from advlora_platform.cli.app import application
from advlora_platform.execution.resources import GROWS_TO, to_come
from advlora_platform.study.library import load_any

pytestmark = pytest.mark.unit
ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "platform" / "deploy"
KUBERNETES = "1.33"
KUBERAY = yaml.safe_load(Path(__file__).with_name("kuberay.yaml").read_text())
RAY_SCHEMA = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def cluster_of(document: dict[str, Any]) -> dict[str, Any]:
    return document["spec"].get("rayClusterSpec", document["spec"])


def pods(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    return [group["template"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


def validate(document: dict[str, Any]) -> None:
    """Validates a manifest: Kubernetes' own by its schemas, KubeRay's by its reference and its pods by Kubernetes'."""
    if document["apiVersion"] != "ray.io/v1":
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
        return
    definitions = {"definitions": KUBERAY["definitions"]}
    jsonschema.validate(document["spec"], {**KUBERAY[document["kind"]], **definitions})
    jsonschema.validate(document["metadata"], {"$ref": "#/definitions/metadata", **definitions})
    for template in pods(cluster_of(document)):
        pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "pod"}, "template": template}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)


@pytest.mark.parametrize("name", ["raycluster.yaml", "rayjob.yaml", "storage.yaml", "mlflow.yaml"])
def test_a_manifest_keeps_the_schemas(name):
    for document in documents(name):
        validate(document)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "workerGroupSpecs", 0, "minReplica"), 0),
        (("spec", "workerGroupSpecs", 0, "maxReplicas"), "4"),
        (("spec", "headGroupSpec", "rayStartParams", "num-cpus"), 0),
        (("spec", "headGroupSpec", "template", "spec", "volume"), []),
        (("spec", "headGroupSpec", "template", "spec", "containers", 0, "env", 0, "val"), "x"),
        (("metadata", "name"), "Not_A_Name"),
    ],
)
def test_a_slip_in_a_manifest_is_found(path, value):
    (document,) = documents("raycluster.yaml")
    place = document = copy.deepcopy(document)
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        validate(document)


def test_the_cluster_of_a_job_is_the_one_that_stays():
    (cluster,), (job,) = documents("raycluster.yaml"), documents("rayjob.yaml")
    assert job["spec"]["rayClusterSpec"] == cluster["spec"]


def test_a_cluster_says_what_it_may_grow_to_and_grows_from_nothing():
    cluster = documents("raycluster.yaml")[0]["spec"]
    (group,) = cluster["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    said = to_come({each["name"]: each["value"] for each in container["env"]}[GROWS_TO])
    limits = container["resources"]["limits"]
    assert (group["minReplicas"], group["replicas"]) == (0, 0)
    assert len(said) == group["maxReplicas"]
    assert (said[0].cpus, said[0].gpus) == (int(limits["cpu"]), int(limits["nvidia.com/gpu"]))
    assert said[0].memory <= int(limits["memory"].removesuffix("Gi")) * 2**30


def test_all_pods_share_a_volume_and_an_image_and_no_token_is_written_down():
    cluster = documents("raycluster.yaml")[0]["spec"]
    assert cluster["authOptions"] == {"mode": "token"}
    containers = [pod["spec"]["containers"][0] for pod in pods(cluster)]
    assert len({container["image"] for container in containers}) == 1
    for container in containers:
        assert {"name": "advlora", "mountPath": "/mnt/advlora"} in container["volumeMounts"]
        assert not [each for each in container["env"] if "TOKEN" in each["name"] or "PASSWORD" in each["name"]]
    claim = documents("storage.yaml")[0]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert claim["metadata"]["name"] == pods(cluster)[0]["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"]


def test_the_rays_are_those_that_the_project_asks_for():
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    (ray_range,) = [each for each in wanted if each.startswith("ray[")]
    version = documents("raycluster.yaml")[0]["spec"]["rayVersion"]
    assert version.rsplit(".", 1)[0] in ray_range


def test_the_job_runs_a_study_that_is_shipped_with_options_that_exist():
    program, verb, study, *options = shlex.split(documents("rayjob.yaml")[0]["spec"]["entrypoint"])
    overrides = [options[number + 1] for number, option in enumerate(options) if option == "--set"]
    loaded = load_any(study, overrides)
    (group,) = documents("raycluster.yaml")[0]["spec"]["workerGroupSpecs"]
    assert program == "advlora"
    assert options[options.index("--out") + 1].startswith("/mnt/advlora/")
    assert loaded.trial.resources.gpus_per_worker == 1
    assert loaded.trial.resources.cpus_per_worker <= int(
        group["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"]
    )
    command = application.get_command(None, verb)
    known = {name for parameter in command.params for name in parameter.opts}
    assert {option for option in options if option.startswith("--")} <= known


def test_the_tracking_server_takes_its_passwords_from_a_secret():
    text = (DEPLOY / "mlflow.yaml").read_text()
    services = {each["metadata"]["name"]: each for each in documents("mlflow.yaml") if each["kind"] == "Service"}
    for host, port in re.findall(r"(?:http://|@)(\w+):(\d+)", text):
        assert services[host]["spec"]["ports"] == [{"port": int(port)}]
    assert "secretRef: { name: mlflow }" in text
    assert re.findall(r"POSTGRES_PASSWORD@|:\$POSTGRES_PASSWORD", text)


def test_the_machines_of_ray_up_keep_rays_own_schema():
    (config,) = documents("ray-up.yaml")
    jsonschema.validate(config, RAY_SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**config, "worker_count": 2}, RAY_SCHEMA)
    gpu = config["available_node_types"]["gpu"]
    (option,) = [each for each in config["docker"]["run_options"] if GROWS_TO in each]
    said = to_come(shlex.split(option)[1].partition("=")[2])
    assert len(said) == gpu["max_workers"] == config["max_workers"]
    assert (said[0].cpus, said[0].gpus) == (gpu["resources"]["CPU"], gpu["resources"]["GPU"])


def test_the_slurm_script_is_bash_and_says_how_it_is_used():
    script = DEPLOY / "slurm.sh"
    subprocess.run(["bash", "-n", script], check=True)
    answer = subprocess.run(["bash", script, "ablate"], capture_output=True, text=True)
    assert answer.returncode == 2
    assert answer.stderr.startswith("usage: sbatch")


def test_the_image_copies_what_exists_and_what_the_context_lets_through():
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    copied = [source for line in lines if line.startswith("COPY") for source in line.split()[1:-1]]
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"].values()
    assert set(packages) <= set(copied)
    for source in copied:
        assert (ROOT / source).exists()
        assert f"!{source}" in ignored
