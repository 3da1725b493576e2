"""Runs as server-sent events, from a real server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.modules import manifest, write_module
from tests.support.process import TEST_KEY, DevkitProcess
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.process

CHATTY = """
import time
for n in range(1200):
    print("line", n)
    if n % 400 == 0:
        self.report_progress(n // 12, f"at {n}")
return self.success(results={"n": 1200})
"""


def read_events(devkit: DevkitProcess, run_id: str, last: str | None = None) -> Iterator[tuple[str, int, Any]]:
    headers = {"X-API-Key": TEST_KEY, **({"Last-Event-ID": last} if last else {})}
    url = f"{devkit.endpoint}/v1/module-runs/{run_id}/events"
    with requests.get(url, headers=headers, stream=True, timeout=PATIENCE) as answer:
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        fields: dict[str, str] = {}
        for line in answer.iter_lines(decode_unicode=True):
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif "event" in fields:
                yield fields["event"], int(fields["id"]), json.loads(fields["data"])
                fields = {}


def test_live_and_late_and_resumed_readers_see_the_same(
    make_devkit: Callable[..., DevkitProcess], tmp_path: Path
) -> None:
    write_module(tmp_path / "mods" / "chatty", CHATTY)
    with make_devkit(modules=tmp_path / "mods") as devkit:
        run_id = devkit.run("chatty")["runId"]
        live = list(read_events(devkit, run_id))
        late = list(read_events(devkit, run_id))
        lines = [data["message"] for kind, _, data in live if kind == "log"]
        assert [line for line in lines if line.startswith("line ")] == [f"line {n}" for n in range(1200)]
        assert [data for kind, _, data in late if kind == "log"] == [data for kind, _, data in live if kind == "log"]
        states = [data["status"] for kind, _, data in live if kind == "state"]
        assert states[-1] == "completed"
        assert [kind for kind, _, _ in live if kind == "end"] == ["end"]
        assert live[-1][0] == "end"
        assert any(kind == "progress" for kind, _, _ in live)
        logs = [(position, data) for kind, position, data in live if kind == "log"]
        middle = logs[600][0]
        resumed = [
            (position, data) for kind, position, data in read_events(devkit, run_id, str(middle)) if kind == "log"
        ]
        assert resumed == logs[601:]


def test_a_stream_ends_with_the_server_and_does_not_hold_it(make_devkit: Callable[..., DevkitProcess]) -> None:
    devkit = make_devkit(shutdown_grace=600).start()
    devkit.request("POST", "/v1/devkit/modules", json={"manifest": manifest("elsewhere")})
    events = read_events(devkit, devkit.run("elsewhere")["runId"])
    assert next(events)[2]["status"] == "queued"
    assert devkit.stop() == 0
    assert [kind for kind, _, _ in events] == ["end"]


def test_streams_of_unknown_runs_and_bad_positions_are_errors_not_streams(
    make_devkit: Callable[..., DevkitProcess],
) -> None:
    with make_devkit() as devkit:
        assert devkit.request("GET", "/v1/module-runs/none/events").json()["error"]["code"] == "RUN_NOT_FOUND"
        bad = devkit.request("GET", "/v1/module-runs/none/events", headers={"Last-Event-ID": "1 OR 1"})
        assert bad.json()["error"]["code"] == "PARAMETER_INVALID"
