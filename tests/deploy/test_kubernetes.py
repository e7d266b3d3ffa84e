"""Manifests: rendered by kubectl, held to the schemas of Kubernetes and to our own settings."""

from __future__ import annotations

import json
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import livemind
from livemind.orchestrator.cli import entry
from livemind.orchestrator.config.settings import Settings, load_settings
from livemind.orchestrator.server.app import ABORT_S

from .test_monitoring import samples

KUBERNETES = Path(livemind.__file__).parent / "deploy" / "kubernetes"
OVERLAYS = ("with-vllm", "with-router")
VERSION = "1.33"
Manifest = dict[str, Any]

overlays = pytest.mark.parametrize("overlay", OVERLAYS)


@cache
def rendered(overlay: str) -> list[Manifest]:
    yaml: Any = pytest.importorskip("yaml")
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed; it renders without a cluster")
    done = subprocess.run(
        [kubectl, "kustomize", str(KUBERNETES / overlay)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [*yaml.safe_load_all(done.stdout)]


def only(overlay: str, kind: str, name: str) -> Manifest:
    found = [m for m in rendered(overlay) if (m["kind"], m["metadata"]["name"]) == (kind, name)]
    assert len(found) == 1, (kind, name)
    return found[0]


def pod(overlay: str, kind: str, name: str) -> Manifest:
    spec: Manifest = only(overlay, kind, name)["spec"]["template"]["spec"]
    return spec


def settings(overlay: str) -> Settings:
    return load_settings(KUBERNETES / overlay / "gateway.json")


@overlays
def test_manifests_fit_the_schemas(overlay: str) -> None:
    validate: Any = pytest.importorskip(
        "kubernetes_validate", reason="make test-deploy installs Kubernetes' schemas"
    )
    manifests = rendered(overlay)
    assert len(manifests) >= 10
    for manifest in manifests:
        validate.validate(manifest, VERSION, strict=True)


def test_schemas_refuse_a_field_that_is_none() -> None:
    """What holds the manifests is strict about names, types and what must be there."""
    validate: Any = pytest.importorskip(
        "kubernetes_validate", reason="make test-deploy installs Kubernetes' schemas"
    )
    good = only("with-vllm", "Deployment", "livemind-gateway")
    for change in (
        {"terminationGraceSeconds": 60},
        {"terminationGracePeriodSeconds": "60"},
        {"containers": [{"image": "livemind"}]},
    ):
        bad = json.loads(json.dumps(good))
        bad["spec"]["template"]["spec"].update(change)
        with pytest.raises(validate.ValidationError):
            validate.validate(bad, VERSION, strict=True)


@overlays
def test_gateway_starts_as_the_command_line_takes_it(overlay: str) -> None:
    container = pod(overlay, "Deployment", "livemind-gateway")["containers"][0]
    told = entry.parser().parse_args(container["args"])
    maps = [m for m in rendered(overlay) if m["kind"] == "ConfigMap"]
    names = [v["configMap"]["name"] for v in _volumes(overlay) if "configMap" in v]
    assert names == [m["metadata"]["name"] for m in maps]  # with its hash: a change rolls out
    assert told.config.name in maps[0]["data"]
    mounts = {m["mountPath"] for m in container["volumeMounts"]}
    assert str(told.config.parent) in mounts
    keys = settings(overlay).server.api_keys_file
    assert keys is not None
    assert str(keys.parent) in mounts
    env = {e["name"] for e in container["env"]}
    assert {e.api_key_env for e in settings(overlay).experts if e.api_key_env} <= env


def _volumes(overlay: str) -> list[Manifest]:
    volumes: list[Manifest] = pod(overlay, "Deployment", "livemind-gateway")["volumes"]
    return volumes


@overlays
def test_gateway_that_ends_has_the_time_that_it_takes(overlay: str) -> None:
    server = settings(overlay).server
    gateway = pod(overlay, "Deployment", "livemind-gateway")
    taken = server.lame_duck_s + server.drain_timeout_s + ABORT_S
    assert taken < gateway["terminationGracePeriodSeconds"]
    probe = gateway["containers"][0]["readinessProbe"]
    seen = probe["periodSeconds"] * probe["failureThreshold"] + probe["timeoutSeconds"]
    assert seen < server.lame_duck_s
    assert only(overlay, "Deployment", "livemind-gateway")["spec"]["strategy"] == {
        "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}
    }


@overlays
def test_probes_ask_what_needs_no_key(overlay: str) -> None:
    container = pod(overlay, "Deployment", "livemind-gateway")["containers"][0]
    paths = {kind: container[kind]["httpGet"]["path"] for kind in container if "Probe" in kind}
    assert paths == {
        "startupProbe": "/health",
        "livenessProbe": "/health",
        "readinessProbe": "/ready",
    }


@overlays
def test_autoscaler_goes_by_a_metric_that_there_is(overlay: str) -> None:
    spec = only(overlay, "HorizontalPodAutoscaler", "livemind-gateway")["spec"]
    names = [m["pods"]["metric"]["name"] for m in spec["metrics"] if m["type"] == "Pods"]
    assert names
    assert set(names) <= set(samples())
    assert spec["scaleTargetRef"]["name"] == "livemind-gateway"
    container = pod(overlay, "Deployment", "livemind-gateway")["containers"][0]
    assert "cpu" in container["resources"]["requests"]  # or its share cannot be told
    assert "replicas" not in only(overlay, "Deployment", "livemind-gateway")["spec"]


@overlays
def test_selectors_and_ports_lead_to_the_gateway(overlay: str) -> None:
    labels = only(overlay, "Deployment", "livemind-gateway")["spec"]["template"]["metadata"][
        "labels"
    ]
    service = only(overlay, "Service", "livemind")["spec"]
    selectors = [
        service["selector"],
        only(overlay, "Deployment", "livemind-gateway")["spec"]["selector"]["matchLabels"],
        only(overlay, "PodDisruptionBudget", "livemind-gateway")["spec"]["selector"]["matchLabels"],
        only(overlay, "NetworkPolicy", "livemind-gateway")["spec"]["podSelector"]["matchLabels"],
    ]
    assert all(selector.items() <= labels.items() for selector in selectors)
    ports = pod(overlay, "Deployment", "livemind-gateway")["containers"][0]["ports"]
    assert [p["targetPort"] for p in service["ports"]] == [p["name"] for p in ports]
    assert [p["containerPort"] for p in ports] == [settings(overlay).server.port]


def test_replicas_of_vllm_are_those_that_the_gateway_asks() -> None:
    stateful = only("with-vllm", "StatefulSet", "vllm")["spec"]
    service = only("with-vllm", "Service", "vllm")["spec"]
    assert service["clusterIP"] == "None"
    expert = settings("with-vllm").experts[0]
    port = service["ports"][0]["port"]
    assert list(expert.base_urls) == [
        f"http://vllm-{n}.{stateful['serviceName']}:{port}" for n in range(stateful["replicas"])
    ]
    args = stateful["template"]["spec"]["containers"][0]["args"]
    assert f"--model={expert.model}" in args
    assert f"--max-model-len={expert.max_model_len}" in args


@overlays
def test_pods_run_without_rights_and_secrets_stay_out_of_the_files(overlay: str) -> None:
    gateway = pod(overlay, "Deployment", "livemind-gateway")
    assert gateway["securityContext"]["runAsNonRoot"] is True
    own = gateway["containers"][0]["securityContext"]
    assert own["readOnlyRootFilesystem"] is True
    assert own["capabilities"] == {"drop": ["ALL"]}
    assert not [m for m in rendered(overlay) if m["kind"] == "Secret"]
    nothing = only(overlay, "NetworkPolicy", "nothing")["spec"]
    assert nothing == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
