"""The descriptions of clusters are valid, pin what they install, and open nothing to the world."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[2]
CLUSTERS = [ROOT / "cluster.yaml", ROOT / "experiments" / "cluster" / "on_premise.yaml"]
RAYJOB = ROOT / "experiments" / "cluster" / "rayjob.yaml"

each_cluster = pytest.mark.parametrize("path", CLUSTERS, ids=lambda path: path.name)

# What rayjob.yaml uses of the fields of KubeRay 1.6, from
# https://docs.ray.io/en/master/cluster/kubernetes/references/api.html, and of Kubernetes' pods.
# A name maps to the type of its value, to the values that it may have, or to the fields below it; a
# list has one kind of entry. `!` ends the names of fields that must be there. Which must, and the
# values, is read off the Go types that KubeRay's CRDs are made from (rayjob_types.go and
# raycluster_types.go in ray-operator/apis/ray/v1, a copy of the main branch from the time of Ray
# 2.56, whose commit is not known) and Kubernetes' API of pods and services; no CRD is run here.
# The values of submissionMode are constants there, which the CRD does not enforce.
Fields = dict[str, Any]
_METADATA: Fields = {"name": str, "labels": dict[str, str]}
_POD: Fields = {
    "metadata": _METADATA,
    "spec!": {
        "serviceAccountName": str,
        "containers!": [
            {
                "name!": str,
                "image": str,
                "resources": {"requests": dict[str, object], "limits": dict[str, object]},
                "volumeMounts": [{"name!": str, "mountPath!": str, "readOnly": bool}],
            }
        ],
        "volumes": [{"name!": str, "persistentVolumeClaim": {"claimName!": str}}],
    },
}
RAYJOB_FIELDS: Fields = {
    "apiVersion!": str,
    "kind!": str,
    "metadata!": _METADATA,
    "spec!": {
        "jobId": str,
        "entrypoint": str,
        "submissionMode": {"K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"},
        "shutdownAfterJobFinishes": bool,
        "ttlSecondsAfterFinished": int,
        "rayClusterSpec": {
            "rayVersion": str,
            "authOptions": {"mode": {"disabled", "token"}, "secretName": str},
            "enableInTreeAutoscaling": bool,
            "autoscalerOptions": {"idleTimeoutSeconds": int},
            "headGroupSpec!": {
                "serviceType": {"ClusterIP", "NodePort", "LoadBalancer", "ExternalName"},
                "rayStartParams": dict[str, str],
                "template!": _POD,
            },
            "workerGroupSpecs": [
                {
                    "groupName!": str,
                    "replicas": int,
                    "minReplicas!": int,
                    "maxReplicas!": int,
                    "rayStartParams": dict[str, str],
                    "template!": _POD,
                }
            ],
        },
    },
}


def wrong_fields(value: Any, fields: Any, where: str) -> list[str]:
    """Name all that has no such field, is not what its field takes, or is missing."""
    if isinstance(fields, dict):
        if not isinstance(value, dict):
            return [where]
        known = {name.rstrip("!"): field for name, field in fields.items()}
        needed = {name.rstrip("!") for name in fields if name.endswith("!")}
        wrong = [
            f"{where}.{name}" for name in sorted((value.keys() - known) | (needed - value.keys()))
        ]
        both = [name for name in value if name in known]
        return wrong + [w for n in both for w in wrong_fields(value[n], known[n], f"{where}.{n}")]
    if isinstance(fields, set):
        return [] if value in fields else [where]
    if isinstance(fields, list):
        if not isinstance(value, list):
            return [where]
        return [w for i, v in enumerate(value) for w in wrong_fields(v, fields[0], f"{where}[{i}]")]
    if fields == dict[str, str]:
        strings = isinstance(value, dict) and all(isinstance(v, str) for v in value.values())
        return [] if strings else [where]
    return [] if type(value) is getattr(fields, "__origin__", fields) else [where]


def documents() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(RAYJOB.read_text()))


@each_cluster
def test_ray_takes_the_cluster(path: Path) -> None:
    validate_config(prepare_config(yaml.safe_load(path.read_text())))


def test_ray_refuses_a_misspelt_cluster() -> None:
    config = yaml.safe_load(CLUSTERS[0].read_text()) | {"setup_command": []}
    with pytest.raises(Exception, match="setup_command"):
        validate_config(prepare_config(config))


@each_cluster
def test_every_node_asks_for_the_token_that_it_was_given(path: Path) -> None:
    config = yaml.safe_load(path.read_text())
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    for commands in ("head_start_ray_commands", "worker_start_ray_commands"):
        (start,) = [line for line in config[commands] if "ray start" in line]
        assert re.search(r"export [^;]*RAY_AUTH_MODE=token[^;]*;.* ray start ", start)


@each_cluster
def test_dashboard_on_loopback_no_client_port_and_the_autoscaler_that_is_tested(path: Path) -> None:
    config = yaml.safe_load(path.read_text())
    (start,) = [line for line in config["head_start_ray_commands"] if "ray start" in line]
    assert "--dashboard-host=127.0.0.1" in start.split()
    assert "python -m busi_tune.orchestration.without_client ray start --head" in start
    assert "0.0.0.0" not in yaml.safe_dump(config)
    # `ray up` puts the second autoscaler before it; the tests run the first.
    assert re.search(r"export [^;]*RAY_enable_autoscaler_v2=0[^;]*;.* ray start ", start)


@each_cluster
def test_nodes_get_this_python_and_these_packages(path: Path) -> None:
    commands = yaml.safe_load(path.read_text())["setup_commands"]
    (python,) = re.findall(r"uv venv .*--python (\d+\.\d+)\.\d+", "\n".join(commands))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert python == project["tool"]["mypy"]["python_version"], "constraints.txt is made for it"
    assert "~/venv/bin/pip install --quiet -c ~/busi_tune/constraints.txt ~/busi_tune" in commands
    assert re.search(r"astral\.sh/uv/\d+\.\d+\.\d+/install\.sh", "\n".join(commands))


def test_aws_runs_a_cpu_head_and_up_to_eight_spot_workers() -> None:
    config = yaml.safe_load(CLUSTERS[0].read_text())
    head, worker = (config["available_node_types"][name] for name in ("head", "gpu_worker"))
    assert config["head_node_type"] == "head"
    assert head["resources"] == {"CPU": 0}, "nothing is trained on the head"
    assert worker["min_workers"] == 0
    assert worker["max_workers"] == config["max_workers"] == 8
    assert worker["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert "InstanceMarketOptions" not in head["node_config"], "a lost head ends the run"
    for node in (head, worker):
        assert node["node_config"]["IamInstanceProfile"], "without it S3 needs a key on the machine"


def test_both_instance_profiles_may_do_what_a_storage_needs_and_no_more() -> None:
    text = (ROOT / "experiments" / "cluster" / "bucket_policy.json").read_text()
    bucket, objects = json.loads(text)["Statement"]
    assert (bucket["Effect"], objects["Effect"]) == ("Allow", "Allow")
    assert (bucket["Action"], bucket["Resource"]) == (["s3:ListBucket"], ["arn:aws:s3:::BUCKET"])
    # The last: what was sent of a large object is removed where the rest cannot be.
    needed = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    assert objects["Action"] == needed
    (storage,) = set(re.findall(r"--storage s3://(\S+)", CLUSTERS[0].read_text()))
    assert objects["Resource"] == [f"arn:aws:s3:::{storage}/*"]
    assert "experiments/cluster/bucket_policy.json" in CLUSTERS[0].read_text()


@each_cluster
def test_images_in_the_checkout_are_sent_by_no_command_that_sends_the_project(path: Path) -> None:
    """They would go to every node, and past the size that Ray allows a job's folder."""
    excluded = yaml.safe_load(path.read_text())["rsync_exclude"]
    assert "**/BUSI" in excluded
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == excluded
    assert "/BUSI/" in (ROOT / ".gitignore").read_text().splitlines(), "`ray job` follows it"


def test_every_port_on_premise_is_named_for_the_firewall() -> None:
    text = CLUSTERS[1].read_text()
    commands = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    ports = {int(port) for port in re.findall(r"-port=(\d+)", commands)}
    assert ports == {6379, *range(6380, 6385), 52365, 10002, 10999}
    for words in ("6379", "6380-6384", "52365", "10002-10999"):
        assert re.search(rf"^#   {words} ", text, re.MULTILINE)
    (head,) = [c for c in yaml.safe_load(text)["head_start_ray_commands"] if "ray start" in c]
    (worker,) = [c for c in yaml.safe_load(text)["worker_start_ray_commands"] if "ray start" in c]
    for flag in re.findall(r"--[a-z-]+-port=\d+", head):
        assert flag in worker, "every node has the same ports"


def test_the_job_has_only_fields_of_kuberay() -> None:
    job, policy = documents()
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert wrong_fields(job, RAYJOB_FIELDS, "") == []
    assert (policy["apiVersion"], policy["kind"]) == ("networking.k8s.io/v1", "NetworkPolicy")


def test_a_misspelt_or_mistyped_field_of_the_job_is_found() -> None:
    job, _ = documents()
    spec = job["spec"]["rayClusterSpec"]
    spec["authOption"] = spec.pop("authOptions")
    spec["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0
    spec["workerGroupSpecs"][0]["maxReplicas"] = "8"
    assert wrong_fields(job, RAYJOB_FIELDS, "") == [
        ".spec.rayClusterSpec.authOption",
        ".spec.rayClusterSpec.headGroupSpec.rayStartParams",
        ".spec.rayClusterSpec.workerGroupSpecs[0].maxReplicas",
    ]


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("submissionMode", "HttpMode"),
        ("rayClusterSpec.authOptions.mode", "Token"),
        ("rayClusterSpec.headGroupSpec.serviceType", "None"),
        ("rayClusterSpec.headGroupSpec", None),
        ("rayClusterSpec.headGroupSpec.template", None),
        ("rayClusterSpec.workerGroupSpecs.0.groupName", None),
        ("rayClusterSpec.workerGroupSpecs.0.minReplicas", None),
        ("rayClusterSpec.workerGroupSpecs.0.template.spec.containers.0.name", None),
    ],
)
def test_an_unknown_value_or_a_missing_field_of_the_job_is_found(
    place: str, value: str | None
) -> None:
    job, _ = documents()
    *path, last = [int(word) if word.isdigit() else word for word in place.split(".")]
    inside: Any = job["spec"]
    for step in path:
        inside = inside[step]
    if value is None:
        del inside[last]
    else:
        inside[last] = value
    (wrong,) = wrong_fields(job, RAYJOB_FIELDS, "")
    assert wrong == ".spec." + place.replace(".0", "[0]")


def test_the_job_asks_for_a_token_and_is_reached_by_none_but_who_has_to() -> None:
    job, policy = documents()
    spec = job["spec"]["rayClusterSpec"]
    assert spec["authOptions"] == {"mode": "token", "secretName": "busi-tune-token"}
    assert "create secret generic busi-tune-token --from-file=auth_token=" in RAYJOB.read_text()
    assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    labels = [group["template"]["metadata"]["labels"] for group in groups]
    assert labels == [policy["spec"]["podSelector"]["matchLabels"]] * len(groups)
    operator = {"app.kubernetes.io/name": "kuberay-operator"}
    spaces = [{"kubernetes.io/metadata.name": name} for name in ("kuberay-operator", "monitoring")]
    own = {"podSelector": {"matchLabels": {"app": "busi-tune"}}}
    prometheus = {"namespaceSelector": {"matchLabels": spaces[1]}}
    by_operator = {
        "namespaceSelector": {"matchLabels": spaces[0]},
        "podSelector": {"matchLabels": operator},
    }
    metrics = {"from": [prometheus], "ports": [{"protocol": "TCP", "port": 8080}]}
    ingress = [{"from": [own, by_operator]}, metrics]
    assert policy["spec"] == {**own, "policyTypes": ["Ingress"], "ingress": ingress}


def test_the_job_runs_the_version_of_ray_that_the_project_pins() -> None:
    job, _ = documents()
    constraints = (ROOT / "constraints.txt").read_text()
    (version,) = re.findall(r"^ray(?:\[[^]]*\])?==(\S+)", constraints, re.MULTILINE)
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == version
    assert f"FROM rayproject/ray:{version}-py311" in RAYJOB.read_text()


@pytest.mark.parametrize("path", [*CLUSTERS[:1], RAYJOB], ids=lambda path: path.name)
def test_the_run_that_a_file_shows_is_one_that_the_command_takes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from busi_tune.command_line import parse
    from busi_tune.search import COMMAND

    text = re.sub(r"\\\n#", "", path.read_text())
    (arguments,) = re.findall(r"python -m busi_tune\.search ((?:--\S+ \S+\s*)+)", text)
    words = arguments.replace("/home/ray/busi_tune", str(ROOT)).split()
    monkeypatch.chdir(ROOT)
    config = parse(COMMAND, words).config
    assert config.resources.gpus_per_worker == 1, (
        "left out, a run trains on CPUs that are there first"
    )
    assert config.storage.startswith("s3://")
