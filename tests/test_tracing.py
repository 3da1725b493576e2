"""One trace joins caller, request, run and module process; without the setting there is nothing of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from devkit_api.app import create_app
from devkit_api.settings import SettingsError, load_settings
from tests.support.modules import manifest, write_module
from tests.support.process import DevkitProcess

pytestmark = pytest.mark.process

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
# A module that passes its context on, as an instrumented one does.
PASSES_IT_ON = """
import os, urllib.request
parent = os.environ.get("TRACEPARENT", "")
if input_data.get("ask"):
    asked = urllib.request.Request(input_data["ask"], headers={"traceparent": parent})
    urllib.request.urlopen(asked, timeout=180).close()
if input_data.get("fail"):
    raise ValueError("as asked")
return self.success(results={"parent": parent, "otel": [name for name in os.environ if name.startswith("OTEL")]})
"""


class Collector:
    """An OTLP receiver on loopback; `spans` by run and name once the devkit has stopped."""

    def __init__(self) -> None:
        self.resources: list[dict[str, str]] = []
        self.spans: list[Span] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.path == "/v1/traces"
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    collector.resources.append({a.key: a.value.string_value for a in resource.resource.attributes})
                    for scope in resource.scope_spans:
                        collector.spans.extend(scope.spans)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def named(self, name: str, trace: str) -> list[Span]:
        return [span for span in self.spans if span.name == name and span.trace_id.hex() == trace]

    def one(self, name: str, trace: str) -> Span:
        [span] = self.named(name, trace)
        return span


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    made = Collector()
    made.thread.start()
    yield made
    made.server.shutdown()
    made.thread.join()
    made.server.server_close()


@pytest.fixture(scope="module")
def traced(collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Results of three runs of a devkit that has stopped since: joined to a caller's trace, failed, not joined."""
    root = tmp_path_factory.mktemp("traced")
    write_module(root / "modules" / "passer", PASSES_IT_ON)
    with DevkitProcess(root / "devkit", root / "modules", otlp_endpoint=collector.address) as devkit:
        ask = f"{devkit.endpoint}/v1/system/version"
        return {
            "joined": _run(devkit, {"ask": ask}, f"00-{TRACE}-{CALLER}-01"),
            "failed": _run(devkit, {"fail": True}, f"00-{'a' * 32}-{CALLER}-01"),
            "alone": _run(devkit, {}, "00-nonsense-01"),
        }


def _run(devkit: DevkitProcess, parameters: dict[str, Any], traceparent: str) -> dict[str, Any]:
    body = {"moduleId": "passer", "parameters": parameters, "mode": "async"}
    answer = devkit.request("POST", "/v1/module-runs", json=body, headers={"traceparent": traceparent})
    assert answer.status_code == 202, answer.text
    devkit.wait(answer.json()["runId"])
    return devkit.request("GET", f"/v1/module-runs/{answer.json()['runId']}/result").json()


def test_one_trace_joins_caller_request_run_and_process(
    collector: Collector, traced: dict[str, dict[str, Any]]
) -> None:
    assert traced["joined"]["success"], traced["joined"]["error"]
    request = collector.one("POST /v1/module-runs", TRACE)
    assert (request.kind, request.parent_span_id.hex()) == (Span.SPAN_KIND_SERVER, CALLER)
    run = collector.one("run passer", TRACE)
    assert run.parent_span_id == request.span_id
    attributes = {a.key: a.value.string_value for a in run.attributes}
    assert attributes["devkit.run.id"] == traced["joined"]["runId"]
    execute = collector.one("execute", TRACE)
    for phase in ("queue", "launch", "execute", "store"):
        span = collector.one(phase, TRACE)
        assert span.parent_span_id == run.span_id
        assert run.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano <= run.end_time_unix_nano
    # The process was told to be below the span of its execution, and its own call is.
    results = traced["joined"]["data"]["results"]
    assert results["parent"] == f"00-{TRACE}-{execute.span_id.hex()}-01"
    assert collector.one("GET /v1/system/version", TRACE).parent_span_id == execute.span_id
    assert results["otel"] == []


def test_the_end_of_a_run_is_told(collector: Collector, traced: dict[str, dict[str, Any]]) -> None:
    assert traced["failed"]["status"] == "failed"
    failed = collector.one("run passer", "a" * 32)
    assert (failed.status.code, failed.status.message) == (Status.STATUS_CODE_ERROR, traced["failed"]["error"]["code"])
    assert collector.one("run passer", TRACE).status.code == Status.STATUS_CODE_UNSET


def test_a_broken_traceparent_begins_a_new_trace(collector: Collector, traced: dict[str, dict[str, Any]]) -> None:
    _, trace, parent, _ = traced["alone"]["data"]["results"]["parent"].split("-")
    assert collector.one("POST /v1/module-runs", trace).parent_span_id == b""
    assert collector.one("execute", trace).span_id.hex() == parent


def test_spans_hold_templates_and_no_secret(collector: Collector, traced: dict[str, dict[str, Any]]) -> None:
    assert traced
    polled = [span for span in collector.spans if span.name == "GET /v1/module-runs/{run_id}"]
    assert {a.value.int_value for a in polled[0].attributes if a.key == "http.response.status_code"} == {200}
    assert not any("test-key" in str(span) or "runtoken" in str(span) for span in collector.spans)
    assert {resource["service.name"] for resource in collector.resources} == {"hla-compass-devkit"}


async def test_without_the_setting_nothing_is_traced(make_client: Any, tmp_path: Path) -> None:
    client = await make_client()
    await client.post("/v1/devkit/modules", json={"manifest": manifest("plain")})
    sent = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
    answer = await client.post("/v1/module-runs", json={"moduleId": "plain", "parameters": {}}, headers=sent)
    run_id = (await answer.json())["runId"]
    [stored] = client.app_state.glob(f"runs/**/*{run_id}*")
    assert TRACE not in stored.read_text()
    assert len(client.server.app.middlewares) == 1


def test_what_is_not_installed_is_refused_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devkit_api.supported.find_spec", lambda _: None)
    environment = {
        "DEVKIT_STATE_DIR": str(tmp_path), "DEVKIT_OTLP_ENDPOINT": "http://127.0.0.1:4318",
        "DEVKIT_S3_ENDPOINT": "http://127.0.0.1:9000", "DEVKIT_S3_ACCESS_KEY": "an-access-key",
        "DEVKIT_S3_SECRET_KEY": "a-secret-of-the-tests-1",
    }  # fmt: skip
    with pytest.raises(SettingsError) as refused:
        create_app(load_settings(environment))
    fixes = {problem.variable: problem.fix for problem in refused.value.problems}
    assert fixes == {
        "DEVKIT_OTLP_ENDPOINT": "pip install 'hla-compass-devkit[otel]'",
        "DEVKIT_S3_ENDPOINT": "pip install 'hla-compass-devkit[s3]'",
    }
