"""/metrics: what is counted, under which labels, and who may read it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from devkit_api.app import create_app
from devkit_api.settings import load_settings
from devkit_api.system.metrics import METRICS
from tests.support.modules import manifest, write_module
from tests.support.process import TEST_KEY, DevkitProcess
from tests.support.waiting import PATIENCE, free_port, until

REPO = Path(__file__).resolve().parents[1]


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def scrape(client: Any) -> dict[Any, float]:
    answer = await client.get("/metrics")
    assert (answer.status, answer.content_type) == (200, "text/plain")
    return samples(await answer.text())


async def test_requests_are_counted_by_template_and_status(make_client: Any) -> None:
    client = await make_client()
    for name in ("one", "two", "../three"):
        await client.get(f"/v1/modules/{name}")
    await client.get("/not/here?token=secret-in-a-path")
    await client._session.request("PROPFIND", client.make_url("/"))
    found = await scrape(client)
    labels = (("method", "GET"), ("route", "/v1/modules/{module_id}"), ("status", "404"))
    assert found["devkit_http_requests_total", labels] == 2
    assert found["devkit_http_requests_total", (("method", "GET"), ("route", "(no route)"), ("status", "404"))] == 2
    assert found["devkit_http_request_seconds_count", labels[:2]] == 2
    assert ("devkit_http_requests_total", (("method", "other"), ("route", "(no route)"), ("status", "405"))) in found
    text = await (await client.get("/metrics")).text()
    assert "secret" not in text
    assert "PROPFIND" not in text


async def test_refusals_of_the_rate_limit_are_counted(make_client: Any) -> None:
    client = await make_client(rate_limit_write="1/hour:1")
    statuses = [(await client.post("/v1/devkit/modules", json={})).status for _ in range(3)]
    assert statuses.count(429) == 2
    assert (await scrape(client))["devkit_rate_limit_refusals_total", (("kind", "write"),)] == 2


async def test_runs_modules_and_saved_bytes_are_counted(make_client: Any) -> None:
    client = await make_client()
    await client.post("/v1/devkit/modules", json={"manifest": manifest("counted")})
    started = await (await client.post("/v1/module-runs", json={"moduleId": "counted", "parameters": {}})).json()
    before = await scrape(client)
    assert before["devkit_modules", ()] == 1
    assert before["devkit_runs", (("status", "queued"),)] == 1
    run = client.make_url(f"/v1/module-runs/{started['runId']}/complete")
    headers = {"X-API-Key": started["token"]}
    answer = await client.anonymous.post(run, json={"status": "completed"}, headers=headers)
    assert answer.status == 200
    after = await scrape(client)
    assert after["devkit_runs", (("status", "queued"),)] == 0
    assert after["devkit_runs", (("status", "completed"),)] == 1
    assert after["devkit_runs_ended_total", (("status", "completed"),)] == 1


def test_phases_of_an_executed_run(make_devkit: Any, tmp_path: Path) -> None:
    body = 'self.storage.save_file("a.txt", b"12345"); return self.success(results={})'
    write_module(tmp_path / "modules" / "saver", body)
    devkit: DevkitProcess = make_devkit(modules=tmp_path / "modules").start()
    run = devkit.wait(devkit.run("saver")["runId"])
    assert run["status"] == "completed", run
    found = samples(devkit.request("GET", "/metrics").text)
    for phase in ("queue", "launch", "import", "execute", "store"):
        assert found["devkit_run_phase_seconds_count", (("phase", phase),)] == 1
    assert found["devkit_object_store_bytes_total", (("direction", "in"),)] == 5
    assert found["process_resident_memory_bytes", ()] > 0


async def test_only_those_who_may_read_it(make_client: Any) -> None:
    client = await make_client()
    assert (await client.anonymous.get(client.make_url("/metrics"))).status == 401


def test_two_applications_count_for_themselves(tmp_path: Path) -> None:
    apps = [
        create_app(load_settings({"DEVKIT_STATE_DIR": str(tmp_path / name), "DEVKIT_API_KEY": TEST_KEY}))
        for name in ("a", "b")
    ]
    apps[0][METRICS].refused("read")
    assert b'kind="read"' in apps[0][METRICS].page()
    assert b'kind="read"' not in apps[1][METRICS].page()


async def test_the_dashboard_asks_for_what_there_is(make_client: Any) -> None:
    # A cluster's are there with a cluster, whether it answers or not.
    client = await make_client(executor="dask", dask_scheduler=f"tcp://127.0.0.1:{free_port()}")
    page = await (await client.get("/metrics")).text()
    known = {name for family in text_string_to_metric_families(page) for name in (family.name, f"{family.name}_total")}
    known |= {f"{name}_bucket" for name in known}
    dashboard = json.loads((REPO / "conf" / "grafana-dashboard.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked = {name for text in expressions for name in re.findall(r"\b[a-z]+_\w+", text)} - {"histogram_quantile"}
    assert len(asked) > 10
    assert asked <= known


def _if_ready(asked: subprocess.CompletedProcess[str]) -> str | None:
    return asked.stdout if asked.returncode == 0 else None


def test_the_health_command(make_devkit: Any) -> None:
    devkit: DevkitProcess = make_devkit().start()
    command = [sys.executable, "-m", "devkit_api", "health"]

    def ask(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *arguments], check=False, env=devkit.environment(), cwd=devkit.root, capture_output=True,
            text=True, timeout=PATIENCE,
        )  # fmt: skip

    # On a busy machine a service may not answer in time, once.
    for where in ((), ("--url", devkit.endpoint + "/")):
        assert until(lambda where=where: _if_ready(ask(*where, "--timeout", "60"))) == "ready\n"
    devkit.stop()
    gone = ask()
    assert gone.returncode == 1
    assert "no devkit answers" in gone.stderr
