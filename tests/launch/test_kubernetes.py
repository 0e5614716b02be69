"""The RayJob manifests: pods by Kubernetes' own schema, the rest by one of ours, and what both leave open."""

import copy
import json
import os
import re
import subprocess
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from glitchflow.cli import STAGES
from glitchflow.config import parse

ROOT = Path(__file__).parents[2]
MANIFESTS = sorted((ROOT / "launch" / "kubernetes").glob("*.yaml"))
SCHEMA = json.loads(Path(__file__).with_name("rayjob.schema.json").read_text())
VERSION = "1.31"


def documents(path: Path) -> dict[str, dict]:
    """By kind, each a copy of its own: YAML's anchors share what is written once."""
    return {d["kind"]: json.loads(json.dumps(d)) for d in yaml.safe_load_all(path.read_text())}


def templates(job: dict) -> dict[str, dict]:
    cluster = job["spec"]["rayClusterSpec"]
    found = {"submitter": job["spec"]["submitterPodTemplate"], "head": cluster["headGroupSpec"]["template"]}
    return found | {group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]}


def check(found: dict[str, dict]) -> list[str]:
    """Raises where a manifest is not what KubeRay and Kubernetes take; returns what was checked."""
    job = found["RayJob"]
    jsonschema.validate(job, SCHEMA)
    for name, template in templates(job).items():
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, **template}
        kubernetes_validate.validate(pod, VERSION, strict=True)
        for container in template["spec"]["containers"]:  # a quantity is any string to Kubernetes' own schema
            jsonschema.validate(
                container["resources"], {**SCHEMA["$defs"]["resources"], "$defs": SCHEMA["$defs"]}
            )
    for kind in found.keys() - {"RayJob"}:
        kubernetes_validate.validate(found[kind], VERSION, strict=True)
    assert found["PersistentVolumeClaim"]["spec"]["storageClassName"], "not every cluster has a default"
    return [*found, *templates(job)]


@pytest.fixture(params=MANIFESTS, ids=lambda path: path.stem)
def found(request):
    return documents(request.param)


def test_there_is_one_for_cpus_and_one_for_gpus():
    assert [path.name for path in MANIFESTS] == ["rayjob-cpu.yaml", "rayjob-gpu.yaml"]
    limits = {
        path.stem: templates(documents(path)["RayJob"])[path.stem.split("-")[1]]["spec"]["containers"][0][
            "resources"
        ]
        for path in MANIFESTS
    }
    assert limits["rayjob-gpu"]["limits"]["nvidia.com/gpu"] == 1
    assert "nvidia.com/gpu" not in limits["rayjob-cpu"]["limits"]


def test_it_is_valid(found):
    assert {"RayJob", "submitter", "head"} < set(check(found))


@pytest.mark.parametrize(
    "keys, value",
    [
        (("spec", "rayClusterSpec", "authOptions", "mode"), "disabled"),
        (("spec", "rayClusterSpec", "headGroupSpec", "serviceType"), "LoadBalancer"),
        (("spec", "rayClusterSpec", "headGroupSpec", "rayStartParams", "num-cpus"), 0),
        (("spec", "shutdownAfterJobFinish"), True),
        (("spec", "activeDeadlineSeconds"), 86400),  # it would end a long run for good, without another try
        (("spec", "backoffLimit"), 0),
        (("spec", "submitterPodTemplate", "spec", "restartPolicies"), "Never"),
        (("spec", "submitterPodTemplate", "spec", "containers", 0, "resources", "limits", "memory"), "8Gb"),
        (("spec", "rayClusterSpec", "headGroupSpec", "template", "spec", "volumes", 0, "configmap"), {}),
        (("spec", "rayClusterSpec", "workerGroupSpecs", 0, "template", "spec", "containers", 0, "image"), 5),
    ],
)  # fmt: skip
def test_the_validation_sees_mistakes(found, keys, value):
    broken = copy.deepcopy(found)
    inner = broken["RayJob"]
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError)):
        check(broken)


def test_nothing_runs_as_root_or_without_limits(found):
    for name, template in templates(found["RayJob"]).items():
        pod = template["spec"]
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] >= 1000
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            inside = container["securityContext"]
            assert inside["capabilities"] == {"drop": ["ALL"]}
            assert inside["allowPrivilegeEscalation"] is inside["privileged"] is False
            assert re.fullmatch(r"FILL-IN/glitchflow:\d+\.\d+\.\d+-(cpu|cuda)", container["image"]), (
                "no `latest`, and nobody's registry but the user's"
            )


def test_what_is_mounted_is_there_and_the_experiment_is_one(found):
    job = found["RayJob"]
    for name, template in templates(job).items():
        pod = template["spec"]
        volumes = {volume["name"] for volume in pod.get("volumes", ())}
        assert volumes == {m["name"] for c in pod["containers"] for m in c.get("volumeMounts", ())}, name
    volumes = {volume["name"]: volume for volume in templates(job)["head"]["spec"]["volumes"]}
    assert volumes["config"]["configMap"]["name"] == found["ConfigMap"]["metadata"]["name"]
    assert (
        volumes["data"]["persistentVolumeClaim"]["claimName"]
        == found["PersistentVolumeClaim"]["metadata"]["name"]
    )
    command, stage, path = job["spec"]["entrypoint"].split()
    assert (command, path) == ("glitchflow", "/config/experiment.yaml")
    assert stage in STAGES
    experiment = parse(yaml.safe_load(found["ConfigMap"]["data"]["experiment.yaml"]))
    assert experiment.workdir.startswith("/data/")
    assert str(experiment.dataset).startswith(("/data/", "s3://"))


def size(quantity: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(Gi|Mi)?", quantity).groups()
    return int(number) * {None: 1, "Mi": 2**20, "Gi": 2**30}[unit]


def test_ray_s_objects_fit_into_a_volume_of_their_own(found):
    cluster = found["RayJob"]["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        (container,) = group["template"]["spec"]["containers"]
        (mounted,) = [m["name"] for m in container["volumeMounts"] if m["mountPath"] == "/dev/shm"]
        (volume,) = [v["emptyDir"] for v in group["template"]["spec"]["volumes"] if v["name"] == mounted]
        assert volume["medium"] == "Memory"
        objects, room = int(group["rayStartParams"]["object-store-memory"]), size(volume["sizeLimit"])
        assert objects < 0.9 * room, "Ray would put them into /tmp"
        assert room < size(container["resources"]["limits"]["memory"]) / 2, (
            "what is in it is the pod's memory"
        )


def test_a_cluster_that_is_taken_away_costs_minutes(found):
    assert found["RayJob"]["spec"]["backoffLimit"] >= 3
    experiment = parse(yaml.safe_load(found["ConfigMap"]["data"]["experiment.yaml"]))
    if found["RayJob"]["spec"]["entrypoint"].split()[1] == "train":
        assert experiment.train.checkpoint_every == "600s"


def test_pods_with_gpus_stand_on_nodes_that_are_kept_for_them(found):
    workers = found["RayJob"]["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    for group in workers:
        pod = group["template"]["spec"]
        kept = {t["key"] for t in pod.get("tolerations", ()) if t["operator"] == "Exists"}
        assert kept == set(pod["containers"][0]["resources"]["limits"]) - {"cpu", "memory"}


def apply(manifest: Path, tmp_path: Path) -> subprocess.CompletedProcess:
    """launch/kubernetes/apply.sh, with a kubectl that says what it was asked."""
    kubectl = tmp_path / "kubectl"
    kubectl.write_text('#!/bin/sh\necho "kubectl $*"\n')
    kubectl.chmod(0o755)
    line = [ROOT / "launch" / "kubernetes" / "apply.sh", manifest, "--dry-run=server"]
    own = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    return subprocess.run(line, env=own, capture_output=True, text=True)


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.stem)
def test_what_is_not_filled_in_is_named_and_not_applied(manifest, tmp_path):
    unfilled = apply(manifest, tmp_path)
    assert (unfilled.returncode, unfilled.stdout) == (2, "")
    *places, last = unfilled.stderr.splitlines()
    lines = manifest.read_text().splitlines()
    numbers = [number for number, line in enumerate(lines, 1) if "FILL-IN" in line.split("#")[0]]
    assert numbers
    assert places == [f"apply.sh: {manifest}, line {n}: {lines[n - 1].strip()}" for n in numbers]
    assert last == f"apply.sh: {manifest}: put what is yours in the place of FILL-IN; nothing was applied"
    mine = tmp_path / "mine.yaml"
    mine.write_text(manifest.read_text().replace("FILL-IN", "mine.example.org"))
    filled = apply(mine, tmp_path)
    assert (filled.returncode, filled.stderr) == (0, "")
    assert filled.stdout == f"kubectl apply -f {mine} --dry-run=server\n"
    check(documents(mine))


def test_a_manifest_that_is_not_there_is_named(tmp_path):
    done = apply(tmp_path / "none.yaml", tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        f"apply.sh: '{tmp_path}/none.yaml' is no file: launch/kubernetes/apply.sh MANIFEST.yaml\n"
    )


def test_the_readme_builds_the_image_with_what_the_probes_need(found):
    (tag,) = {c["image"] for t in templates(found["RayJob"]).values() for c in t["spec"]["containers"]}
    assert f" -t $REGISTRY/{tag.removeprefix('FILL-IN/')} " in (ROOT / "launch" / "README.md").read_text()
    dockerfile = (ROOT / "launch" / "kubernetes" / "Dockerfile").read_text()
    assert re.search(r"^RUN apt-get update .* wget ", dockerfile, flags=re.M)


def test_ray_is_the_pinned_one(found):
    (pin,) = re.findall(r"^ray==(.*)$", (ROOT / "constraints.txt").read_text(), flags=re.M)
    assert found["RayJob"]["spec"]["rayClusterSpec"]["rayVersion"] == pin


def test_the_workers_hold_what_the_training_asks_for():
    found = documents(ROOT / "launch" / "kubernetes" / "rayjob-gpu.yaml")
    train = parse(yaml.safe_load(found["ConfigMap"]["data"]["experiment.yaml"])).train
    (group,) = found["RayJob"]["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert train.workers <= group["replicas"] * limits["nvidia.com/gpu"]
    assert train.threads * limits["nvidia.com/gpu"] <= int(limits["cpu"])
