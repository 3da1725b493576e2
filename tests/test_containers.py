"""The container files keep their promises: read as data, rule by rule. `test_stack.py` runs them as processes."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.process import REPO
from tests.support.waiting import PATIENCE

COMPOSE = yaml.safe_load((REPO / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
LASTING = ("devkit", "postgres", "minio", "proxy")
PINNED = re.compile(r"[a-z0-9./-]+:[\w.-]+@sha256:[0-9a-f]{64}")


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_hardened(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert {"mem_limit", "cpus", "pids_limit"} <= service.keys()
    user = service["user"].split(":")[0]
    assert (user, service.get("cap_add", [])) == ("0", ["CHOWN"]) if name == "minio-owner" else user != "0"
    assert "cap_add" not in service or name == "minio-owner"
    assert PINNED.fullmatch(service["image"]) or service["build"] == "."


@pytest.mark.parametrize("name", LASTING)
def test_every_lasting_service_is_watched_and_waited_for(name: str) -> None:
    service = SERVICES[name]
    assert service["healthcheck"]["test"][0] == "CMD", "no shell"
    assert service["restart"] == "unless-stopped"
    assert [mount for mount in service["tmpfs"] if mount.startswith("/tmp:")], "the only place that can be written"
    assert not {"/", "/tmp"} & {mount.split(":")[1] for mount in service["volumes"]}
    for other, condition in service.get("depends_on", {}).items():
        expected = "service_healthy" if other in LASTING else "service_completed_successfully"
        assert condition == {"condition": expected}


def test_who_waits_for_whom() -> None:
    assert set(SERVICES["devkit"]["depends_on"]) == {"postgres", "minio"}
    assert set(SERVICES["proxy"]["depends_on"]) == {"devkit"}


def test_secrets_come_from_the_environment_file_alone() -> None:
    text = (REPO / "docker-compose.yml").read_text()
    secret = re.compile(r"^\s*\w*(?:KEY|SECRET|PASSWORD|ROOT_USER)\w*: (.+)$", re.MULTILINE)
    found = secret.findall(text)
    assert len(found) >= 7
    for value in found:
        assert re.fullmatch(r"\$\{DEVKIT_\w+:\?run scripts/init-dev\.sh\}", value), value


def test_only_the_proxy_is_reachable_and_only_from_this_machine() -> None:
    assert [name for name in SERVICES if SERVICES[name].get("ports")] == ["proxy"]
    assert all(port.startswith("127.0.0.1:") for port in SERVICES["proxy"]["ports"])
    assert COMPOSE["networks"]["inside"]["internal"] is True
    for name in ("devkit", "postgres", "minio"):
        assert SERVICES[name]["networks"] == ["inside"]


def test_clients_are_told_the_proxys_address_and_it_alone_is_believed() -> None:
    devkit, proxy = SERVICES["devkit"]["environment"], SERVICES["proxy"]
    published = proxy["ports"][0].removeprefix("127.0.0.1:").removesuffix(":8443")
    assert devkit["DEVKIT_PUBLIC_URL"] == "${DEVKIT_PUBLIC_URL:-https://localhost:" + published + "}"
    fixed = proxy["networks"]["inside"]["ipv4_address"]
    assert devkit["DEVKIT_TRUSTED_PROXIES"] == fixed
    [ranges] = COMPOSE["networks"]["inside"]["ipam"]["config"]
    address, subnet, others = (
        re.sub(r"\$\{DEVKIT_SUBNET:-([\d.]+)\}", r"\1", text) for text in (fixed, ranges["subnet"], ranges["ip_range"])
    )
    assert ip_network(others).subnet_of(ip_network(subnet))
    assert ip_address(address) in ip_network(subnet)
    assert ip_address(address) not in ip_network(others), "no other service is given it"


def test_data_lies_in_named_volumes_and_all_else_is_read_only() -> None:
    for name, service in SERVICES.items():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            assert source in COMPOSE["volumes"] or mount.endswith(":ro"), (name, mount)
    assert set(COMPOSE["volumes"]) == {"devkit-state", "postgres-data", "minio-data"}


def test_the_settings_are_settings() -> None:
    from devkit_api.settings import setting_infos

    known = {info.env for info in setting_infos().values()}
    assert set(SERVICES["devkit"]["environment"]) <= known
    image = set(re.findall(r"\b(DEVKIT_\w+)=", (REPO / "Dockerfile").read_text()))
    assert image
    assert image <= known


def test_the_development_override_reloads() -> None:
    devkit = yaml.safe_load((REPO / "docker-compose.dev.yml").read_text())["services"]["devkit"]
    assert devkit["command"] == ["serve", "--reload"]
    assert devkit["environment"]["PYTHONPATH"] == "/src", "the mounted source wins over the installed one"
    assert devkit["volumes"] == ["./devkit_api:/src/devkit_api:ro"]
    assert all(port.startswith("127.0.0.1:") for port in devkit["ports"])


def test_the_dockerfile() -> None:
    text = (REPO / "Dockerfile").read_text()
    bases = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert len(bases) == 2, "what builds is not what is shipped"
    assert len(set(bases)) == 1
    assert PINNED.fullmatch(bases[0])
    last = text.rsplit("\nFROM ", 1)[1]
    assert re.search(r"^USER 10001:10001$", last, re.MULTILINE)
    assert '"health"' in last
    assert text.count("pip uninstall") == 2, "no tool that only a build needs, in neither Python"
    assert "chmod a-s" in last
    assert text.count("compileall -q -j 0 --invalidation-mode unchecked-hash") == 2, "nothing can be compiled later"
    assert "/usr/sbin/nologin" in last
    assert "org.opencontainers.image.licenses" in last
    assert "curl" not in text
    assert "--require-hashes" in text
    assert not re.search(r"(?:KEY|SECRET|PASSWORD)=", text)
    hadolint = str(Path(sys.executable).with_name("hadolint"))
    subprocess.run([hadolint, str(REPO / "Dockerfile")], check=True, timeout=PATIENCE)


def test_what_is_copied_is_sent_to_the_builder() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (REPO / "Dockerfile").read_text(), re.MULTILINE)
    sent = re.findall(r"^!(.+)$", (REPO / ".dockerignore").read_text(), re.MULTILINE)
    assert {name for line in copied for name in line.split()} == set(sent)
    assert all((REPO / name).exists() for name in sent)


def test_every_dependency_is_locked_with_hashes() -> None:
    config = configparser.ConfigParser()
    config.read(REPO / "setup.cfg")
    wanted = config["options"]["install_requires"]
    wanted += "".join(config["options.extras_require"][extra] for extra in ("s3", "otel", "dask"))
    names = {re.split(r"[\[<>=;~! ]", line)[0].lower() for line in wanted.split("\n") if line.strip()}
    text = (REPO / "conf" / "requirements.lock").read_text()
    pins = re.findall(
        r"^([a-z0-9.-]+)(?:\[[\w,]+\])?==[^\\]+\\\n((?:    --hash=sha256:[0-9a-f]{64}.*\n)+)", text, re.MULTILINE
    )
    locked = {name for name, _ in pins}
    assert len(locked) == len(re.findall(r"^[a-z0-9]", text, re.MULTILINE)), "a pin without hash"
    assert names <= locked
    assert "index-url" not in text
    assert "://" not in text
