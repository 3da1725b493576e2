"""The access log: a line for every answer, in the form of every other line, whatever the caller sends."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest

from devkit_api import logs
from tests.support.process import DevkitProcess


def test_a_line_has_the_form_of_the_formatter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs.time, "time", lambda: 1_800_000_000.5)
    logs.correlation_id.set("0" * 32)
    fields: dict[str, Any] = {"duration_ms": 1.25, "caller": "api_key"}
    stream = io.BytesIO()
    logs.JsonAccessLines(stream).write("GET /v1/modules 200", fields)
    record = logging.LogRecord("devkit_api.access", logging.INFO, "", 0, "GET /v1/modules 200", None, None)
    record.__dict__.update(fields)
    record.created = 1_800_000_000.5
    logs._Context().filter(record)
    assert stream.getvalue().decode() == logs._json_lines().format(record) + "\n"


def test_a_full_disk_stops_no_answer() -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(28, "No space left on device")

    logs.JsonAccessLines(Full()).write("GET / 200", {})


def test_every_answer_of_the_process_has_its_line(make_devkit: Any) -> None:
    devkit: DevkitProcess = make_devkit(LOG_FORMAT="json", LOG_LEVEL="INFO", CORS_ORIGINS="http://page.example").start()
    sent = "0123456789abcdef-mine"
    devkit.request("GET", "/v1/modules", headers={"X-Correlation-ID": sent})
    devkit.request("GET", "/v1/modules/secret-in-a-path", key=None)
    devkit.request("PROPFIND", "/nowhere")
    preflight = {"Origin": "http://page.example", "Access-Control-Request-Method": "GET"}
    devkit.request("OPTIONS", "/v1/modules", key=None, headers=preflight)
    devkit.request("GET", "/v1/system/ready", key=None)
    devkit.stop()
    lines = [json.loads(line) for line in devkit.log_text().splitlines() if line.startswith("{")]
    access = [line for line in lines if line["logger"] == "devkit_api.access"]
    said = [(line["message"], line["caller"]) for line in access]
    assert ("GET /v1/modules 200", "api_key") in said
    assert ("GET /v1/modules/{module_id} 401", "anonymous") in said
    assert ("OPTIONS /v1/modules 200", "anonymous") in said
    assert not [text for text, _ in said if "secret" in text or "/ready" in text]
    assert sent in {line["correlation_id"] for line in access}
    assert all({"timestamp", "level", "logger", "duration_ms"} <= line.keys() for line in access)


async def test_the_console_has_them_as_well(make_client: Any, caplog: pytest.LogCaptureFixture) -> None:
    client = await make_client()
    with caplog.at_level(logging.INFO, "devkit_api.access"):
        await client.get("/v1/modules")
    assert "GET /v1/modules 200" in caplog.messages
