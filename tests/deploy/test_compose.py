"""The compose file: of the form that the specification has, and true about what it starts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import livemind
from livemind.orchestrator.cli import entry
from livemind.orchestrator.config.settings import load_settings
from livemind.orchestrator.server.app import ABORT_S

from .test_monitoring import alerts

DEPLOY = Path(livemind.__file__).parent / "deploy"
FOLDER = DEPLOY / "compose"
FILE = FOLDER / "compose.yaml"


def read(path: Path) -> Any:
    yaml: Any = pytest.importorskip("yaml")
    return yaml.safe_load(path.read_text("utf-8"))


def services() -> dict[str, Any]:
    found: dict[str, Any] = read(FILE)["services"]
    return found


def parsed(text: str) -> Any:
    compose: Any = pytest.importorskip(
        "compose_spec", reason="make test-deploy installs a reader of the specification"
    )
    options = compose.PyOptions()
    options.apply_merge = True
    found = options.from_yaml(text)
    found.validate()
    return found


def test_file_is_of_the_specification() -> None:
    assert sorted(parsed(FILE.read_text("utf-8")).service_names()) == sorted(services())


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ("interval: 10s", "interval: ten", "duration `ten`"),
        ('"127.0.0.1:8000:8000"', '"127.0.0.1:8000:80000"', "port range"),
        ("models:/models", "modells:/models", "volume `modells`"),
        ("ports:", "prts:", "`prts`"),
    ],
)
def test_reader_refuses_what_is_not_of_the_specification(right: str, wrong: str, told: str) -> None:
    text = FILE.read_text("utf-8")
    assert right in text
    with pytest.raises(ValueError, match=told):
        parsed(text.replace(right, wrong))


def test_every_file_that_is_mounted_is_there() -> None:
    mounts = [volume for service in services().values() for volume in service.get("volumes", [])]
    files = [volume.split(":")[0] for volume in mounts if volume.startswith(".")]
    assert len(files) >= 6
    for file in files:
        assert (FOLDER / file).is_file(), file
    named = {volume.split(":")[0] for volume in mounts if not volume.startswith(".")}
    assert named == set(read(FILE)["volumes"])


def test_livemind_is_started_as_its_command_line_takes_it() -> None:
    for name in ("gateway", "bridge"):
        entry.parser().parse_args(services()[name]["command"])
        build = services()[name]["build"]
        assert (FOLDER / build["context"] / build["dockerfile"]).is_file()


def test_gateway_asks_services_that_there_are_and_ends_in_time() -> None:
    settings, found = load_settings(FOLDER / "gateway.json"), services()
    for url in [*settings.experts[0].base_urls, settings.rag.bridge_url]:
        assert re.fullmatch(r"http://([a-z-]+):\d+", url)[1] in found  # type: ignore[index]
    limit_s = settings.server.lame_duck_s + settings.server.drain_timeout_s + ABORT_S
    assert int(found["gateway"]["stop_grace_period"].removesuffix("s")) > limit_s
    assert found["gateway"]["ports"] == [f"127.0.0.1:8000:{settings.server.port}"]
    arguments = found["vllm-one"]["command"]
    assert f"--model={settings.experts[0].model}" in arguments
    key = settings.experts[0].api_key_env
    assert key in found["gateway"]["environment"]


def test_prometheus_scrapes_the_jobs_of_the_alerts() -> None:
    told, found = read(FOLDER / "prometheus.yml"), services()
    mounted = {volume.split(":")[1] for volume in found["prometheus"]["volumes"]}
    assert {f"/etc/prometheus/{name}" for name in told["rule_files"]} <= mounted
    jobs = {job["job_name"]: job for job in told["scrape_configs"]}
    asked = {job for alert in alerts() for job in re.findall(r'job="([\w-]+)"', alert["expr"])}
    assert asked
    assert asked <= set(jobs)
    for job in jobs.values():
        for target in job["static_configs"][0]["targets"]:
            assert target.split(":")[0] in found


def test_grafana_reads_the_dashboard_from_prometheus() -> None:
    mounted = {v.split(":")[1] for v in services()["grafana"]["volumes"]}
    source = read(FOLDER / "grafana" / "datasources.yml")["datasources"][0]
    assert re.fullmatch(r"http://(\w+):9090", source["url"])[1] in services()  # type: ignore[index]
    folder = read(FOLDER / "grafana" / "dashboards.yml")["providers"][0]["options"]["path"]
    assert f"{folder}/livemind.json" in mounted


def test_services_wait_for_services_that_there_are() -> None:
    for service in services().values():
        assert set(service.get("depends_on", ())) <= set(services())


def test_every_port_is_this_machines_alone() -> None:
    for service in services().values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


@pytest.mark.parametrize("file", sorted(DEPLOY.rglob("*.json")), ids=lambda path: path.parent.name)
def test_configurations_of_deploy_are_taken(file: Path) -> None:
    if file.parent.name == "grafana":  # the dashboard: test_monitoring.py
        return
    assert load_settings(file).experts
