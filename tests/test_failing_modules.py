"""Modules that fail, misbehave or are ended: each run ends with its code, message and logs, and the server goes on.

One server executes all of them side by side, as it would on a bad day; the tests then look at one run each.
"""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import attrs
import pytest

from devkit_api.runs.failures import FAILURES
from devkit_api.runs.log_events import MAX_LINE
from tests.support.client import below
from tests.support.modules import write_module
from tests.support.process import DevkitProcess
from tests.support.waiting import until

pytestmark = pytest.mark.process

LOG_BYTES = 2 * 1024 * 1024
ONE_MIB = 1024 * 1024
# Three bytes each, so that no power of two falls between two of them.
LONG_LINE = "→" * (ONE_MIB // 3)
# Long enough to be at work by then on a busy machine.
BRIEFLY = 10
FOREVER = "while True:\n    pass\n"
INPUTS = {
    "type": "object",
    "required": ["n"],
    "additionalProperties": False,
    "properties": {
        "n": {"type": "integer"},
        "peptides": {"type": "array", "items": {"type": "object", "required": ["sequence"]}},
    },
}
OUTPUTS = {
    "type": "object",
    "required": ["results"],
    "properties": {"results": {"type": "object", "required": ["count"]}},
}
PYDANTIC = """
from pydantic import BaseModel, model_validator

class Wanted(BaseModel):
    low: int
    high: int

    @model_validator(mode="after")
    def ordered(self):
        if self.low > self.high:
            raise ValueError("low must not exceed high")
        return self
"""


@attrs.frozen
class Case:
    """A module, how its run must end, and a text its log must hold."""

    execute: str
    code: str
    status: str = "failed"
    message: str = ""
    details: dict[str, Any] = attrs.Factory(dict)
    logged: str = "reached execute"
    manifest: dict[str, Any] = attrs.Factory(dict)
    prelude: str = ""
    parameters: dict[str, Any] = attrs.Factory(dict)
    start: dict[str, Any] = attrs.Factory(dict)


CASES = {
    "raises": Case('raise KeyError("no such allele")', "MODULE_EXCEPTION", message="no such allele"),
    "reports-error": Case(
        'self.error("too few peptides", details={"found": 2})', "MODULE_ERROR", message="too few peptides"
    ),
    "refuses-input": Case(
        "raise AssertionError",
        "MODULE_VALIDATION_FAILED",
        message="low must not exceed high",
        logged="",
        prelude=PYDANTIC,
        parameters={"low": 2, "high": 1},
    ),
    "breaks-its-outputs": Case(
        'return self.success(results={"other": 1})',
        "MODULE_VALIDATION_FAILED",
        message="count",
        manifest={"outputs": OUTPUTS},
    ),
    "misses-a-package": Case(
        "raise AssertionError",
        "MODULE_IMPORT_FAILED",
        message="package_that_is_not_there",
        logged="while importing",
        prelude="print('while importing')\nimport package_that_is_not_there",
    ),
    "exits-three": Case("import sys; sys.exit(3)", "RUN_NO_OUTPUT", details={"exitCode": 3}),
    "exits-silently": Case(
        "import os\nprint('half a line', end='', flush=True)\nos._exit(0)",
        "RUN_NO_OUTPUT",
        details={"exitCode": 0},
        logged="half a line",
    ),
    "never-ends": Case(FOREVER, "RUN_TIMED_OUT", status="timed_out", start={"maxRuntimeSeconds": BRIEFLY}),
    "never-gives-up": Case(
        "import signal\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "while True:\n"
        "    try:\n"
        "        signal.pause()\n"
        "    except BaseException as exc:\n"
        "        print('swallowed', type(exc).__name__)\n",
        "RUN_TIMED_OUT",
        status="timed_out",
        logged="swallowed",
        start={"maxRuntimeSeconds": BRIEFLY},
    ),
    "writes-no-json": Case(
        "import os\nfrom pathlib import Path\n"
        "Path(os.environ['HLA_COMPASS_OUTPUT']).write_text('{\"status\": \"succ')\nos._exit(0)",
        "RUN_OUTPUT_INVALID",
        message="The module's output cannot be used: it is not JSON.",
    ),
    "writes-a-list": Case(
        "import os\nfrom pathlib import Path\nPath(os.environ['HLA_COMPASS_OUTPUT']).write_text('[1, 2]')\nos._exit(0)",
        "RUN_OUTPUT_INVALID",
        message="The module's output cannot be used: it is not an object.",
        details={"exitCode": 0},
    ),
    "links-its-output": Case(
        "import os\nos.symlink('/etc/passwd', os.environ['HLA_COMPASS_OUTPUT'])\nos._exit(0)",
        "RUN_NO_OUTPUT",
        details={"exitCode": 0},
    ),
    "links-its-folder": Case(
        "import os\nfrom pathlib import Path\n"
        "out = Path(os.environ['HLA_COMPASS_OUTPUT']).parent\n"
        "out.rename(out.with_name('moved'))\n"
        "Path('elsewhere').mkdir()\n"
        'Path(\'elsewhere/output.json\').write_text(\'{"status": "success", "results": {}}\')\n'
        "out.symlink_to(Path('elsewhere').absolute())\n"
        "os._exit(0)",
        "RUN_NO_OUTPUT",
        details={"exitCode": 0},
    ),
    "is-killed": Case(
        # The module itself waits: the test kills it meanwhile.
        "import os, time\nprint('pid', os.getpid())\ntime.sleep(600)",
        "RUN_KILLED",
        details={"signal": "SIGKILL"},
    ),
    "writes-too-much": Case(
        'return self.success(results={"x": "x" * 3_000_000})',
        "RUN_OUTPUT_TOO_LARGE",
    ),
}

COMPLETING = {
    "well-behaved": 'return self.success(results={"ok": True})',
    "returns-nan": 'return self.success(results={"x": float("nan"), "y": [float("inf")]}, summary={"z": float("nan")})',
    "prints-a-long-line": f'print("→" * {len(LONG_LINE)})\nreturn self.success(results={{}})',
    "prints-binary": """
        import os
        os.write(1, bytes(range(256)) * 8 + b"\\n")
        os.write(2, b"\\xff\\xfe\\x00 to stderr\\x1b[2J\\n")
        return self.success(results={})
    """,
    "prints-too-much": f"""
        for number in range({2 * LOG_BYTES} // 10_000):
            print(number, "y" * 10_000)
        raise ValueError("the last word")
    """,
    "prints-its-token": """
        import os
        token = os.environ["HLA_API_KEY"]
        assert token.startswith("hla_runtoken_")
        print("token is", token)
        self.logger.warning("token is %s", token)
        # Across the place where a long line is cut, from the very first byte of the token to the last.
        for ahead in range(0, len(token) + 1, 7):
            print("z" * (16 * 1024 - ahead) + token)
        print(token[:40], end="", flush=True)
        print(token[40:])
        return self.success(results={"length": len(token)})
    """,
    "leaves-a-daemon": """
        import os, time
        ours, theirs = os.pipe()
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.write(theirs, str(os.getpid()).encode())
                time.sleep(600)
            os._exit(0)
        os.wait()
        print("daemon", int(os.read(ours, 20)), flush=True)
        return self.success(results={})
    """,
    "reads-stdin": 'import sys\nreturn self.success(results={"read": sys.stdin.read()})',
}


@attrs.frozen
class BadDay:
    """The server and the runs that were started, by module."""

    devkit: DevkitProcess
    run_ids: dict[str, str]

    def ended(self, name: str) -> dict[str, Any]:
        return self.devkit.wait(self.run_ids[name])

    def events(self, name: str, **headers: str) -> list[dict[str, Any]]:
        path = f"/v1/module-runs/{self.run_ids[name]}/logs?limit=10000"
        return self.devkit.request("GET", path, headers=headers).json()["events"]

    def log_text(self, name: str) -> str:
        return "\n".join(event["message"] for event in self.events(name))

    def result(self, name: str) -> dict[str, Any]:
        return self.devkit.request("GET", f"/v1/module-runs/{self.run_ids[name]}/result").json()


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BadDay]:
    root = tmp_path_factory.mktemp("bad-day")
    for name, case in CASES.items():
        body = f'print("reached execute", flush=True)\n{case.execute}'
        folder = write_module(root / "modules" / name, body, prelude=case.prelude, **case.manifest)
        if case.prelude is PYDANTIC:
            main = folder / "backend" / "main.py"
            main.write_text(main.read_text().replace("Probe(Module):\n", "Probe(Module):\n    Input = Wanted\n"))
    for name, body in COMPLETING.items():
        write_module(root / "modules" / name, body)
    write_module(root / "modules" / "has-inputs", inputs=INPUTS)
    settings = {
        "workers": 6, "shutdown_grace": 1, "max_log_bytes": LOG_BYTES, "max_output_bytes": 2 * ONE_MIB,
        "interactive_timeout": 55,
    }  # fmt: skip
    # Without namespaces of their own: some of these modules tell the test which process to end.
    with DevkitProcess(root / "devkit", root / "modules", isolation="process", **settings) as devkit:
        run_ids = {name: devkit.run(name, case.parameters, **case.start)["runId"] for name, case in CASES.items()}
        run_ids |= {name: devkit.run(name)["runId"] for name in COMPLETING}
        yield BadDay(devkit, run_ids)


@pytest.mark.parametrize("name", CASES)
def test_run_ends_as_the_contract_says(day: BadDay, name: str) -> None:
    case = CASES[name]
    if name == "is-killed":
        pid = until(lambda: re.search(r"pid (\d+)", day.log_text(name)))[1]
        os.kill(int(pid), signal.SIGKILL)

    run = day.ended(name)

    assert (run["status"], run["error"]["code"]) == (case.status, case.code), run["error"]
    assert case.message in run["error"]["message"]
    assert case.message or run["error"]["message"] == FAILURES[case.code] or case.code == "RUN_TIMED_OUT"
    assert run["error"]["details"].items() >= case.details.items()
    assert run["startedAt"] <= run["finishedAt"]
    assert case.logged in day.log_text(name)
    last = day.events(name)[-1]
    assert last["message"] == f"Run {case.status}: {case.code}: {run['error']['message']}"
    assert (last["level"], last["logger"]) == ("ERROR", "devkit")
    result = day.result(name)
    assert (result["success"], result["status"], result["error"]) == (False, case.status, run["error"])
    assert result["data"]["status"] == "error"
    assert result["data"]["error"]["message"]
    # What a failed run may show of this machine: nothing it did not print itself.
    assert "/etc/passwd" not in json.dumps(run)
    assert "root:" not in json.dumps(result)


def test_interactive_start_of_a_failing_module_answers_its_error(day: BadDay) -> None:
    body = {"moduleId": "reports-error", "parameters": {}, "mode": "interactive"}
    answer = day.devkit.request("POST", "/v1/module-runs", json=body)
    assert answer.status_code == 200
    assert answer.json()["status"] == "error"
    assert answer.json()["error"]["message"] == "too few peptides"
    assert answer.json()["error"]["details"] == {"found": 2}
    assert answer.json()["_run"]["status"] == "failed"


def test_bad_input_is_refused_before_anything_is_queued(day: BadDay) -> None:
    parameters = {"n": "three", "peptides": [{"sequence": "SIINFEKL"}, {}], "typo": 1}
    for path, body in (
        ("/v1/module-runs", {"moduleId": "has-inputs", "parameters": parameters, "mode": "async"}),
        ("/v1/api/module-runs", {"moduleId": "has-inputs", "parameters": parameters}),
        ("/v1/modules/has-inputs/quote", {"parameters": parameters}),
    ):
        answer = day.devkit.request("POST", path, json=body)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (422, "INPUT_INVALID")
        assert [finding["path"] for finding in error["details"]["errors"]] == ["", "/n", "/peptides/1/sequence"]
        assert all(finding["message"] and finding["expected"] for finding in error["details"]["errors"])
    listed = day.devkit.request("GET", "/v1/module-runs?moduleId=has-inputs").json()
    assert listed["runs"] == []
    assert day.devkit.wait(day.devkit.run("has-inputs", {"n": 3})["runId"])["status"] == "completed"


def test_numbers_json_does_not_know_become_null(day: BadDay) -> None:
    run = day.ended("returns-nan")
    assert run["status"] == "completed"
    assert run["summary"] == {"z": None}
    assert day.result("returns-nan")["data"]["results"] == {"x": None, "y": [None]}


def test_long_line_is_cut_between_characters(day: BadDay) -> None:
    assert day.ended("prints-a-long-line")["status"] == "completed"
    pieces = [event["message"] for event in day.events("prints-a-long-line") if "→" in event["message"]]
    assert "".join(pieces) == LONG_LINE
    assert max(len(piece.encode()) for piece in pieces) <= MAX_LINE


def test_binary_output_becomes_harmless_text(day: BadDay) -> None:
    run = day.ended("prints-binary")
    assert run["status"] == "completed", run
    text = day.log_text("prints-binary")
    assert "0123456789" in text
    assert " to stderr" in text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", text)


def test_log_stops_at_its_limit_and_still_names_the_failure(day: BadDay) -> None:
    run = day.ended("prints-too-much")
    assert run["error"]["message"] == "the last word"
    messages = [event["message"] for event in day.events("prints-too-much")]
    assert any(message.startswith("0 yyy") for message in messages)
    assert sum("DEVKIT_MAX_LOG_BYTES" in message for message in messages) == 1
    assert messages[-1] == "Run failed: MODULE_EXCEPTION: the last word"
    log_file = next(path for path in below(day.devkit.state) if path.parts[-2:] == (run["runId"], "log.jsonl"))
    assert LOG_BYTES - 20_000 < log_file.stat().st_size < LOG_BYTES + 1000
    assert run["metrics"]["logBytes"] > 2 * LOG_BYTES - 20_000
    assert LOG_BYTES - 100_000 < run["metrics"]["logBytesDropped"] < run["metrics"]["logBytes"]


def test_token_a_module_prints_is_masked(day: BadDay) -> None:
    run = day.ended("prints-its-token")
    assert run["status"] == "completed", run["error"]
    run_id = day.run_ids["prints-its-token"]
    length = day.result("prints-its-token")["data"]["results"]["length"]
    shown = "".join(event["message"] for event in day.events("prints-its-token"))
    assert shown.count("token is") == 2
    assert shown.count("***") == 3 + length // 7 + 1
    assert f"{run_id}~" not in shown
    # A token is prefix, run id, serial and signature: no run of its letters may be left of the secret parts.
    assert not re.search(r"[A-Za-z0-9_-]{43}", shown.replace("z", " ").replace(run_id, " "))
    assert "hla_runtoken_devkit" not in day.devkit.log_text()


def test_daemon_that_keeps_the_output_open_does_not_keep_the_run_open(day: BadDay) -> None:
    daemon = int(until(lambda: re.search(r"daemon (\d+)", day.log_text("leaves-a-daemon")))[1])
    try:
        assert day.ended("leaves-a-daemon")["status"] == "completed"
    finally:
        with suppress(ProcessLookupError):
            os.kill(daemon, signal.SIGKILL)


def test_stdin_is_empty(day: BadDay) -> None:
    assert day.ended("reads-stdin")["status"] == "completed"
    assert day.result("reads-stdin")["data"]["results"] == {"read": ""}


def test_server_keeps_serving(day: BadDay) -> None:
    for name in (*CASES, *COMPLETING):
        day.ended(name)
    assert day.devkit.wait(day.devkit.run("well-behaved")["runId"])["status"] == "completed"

    def health() -> dict[str, Any] | None:
        """On a busy machine a service may not answer in time, once."""
        found: dict[str, Any] = day.devkit.request("GET", "/v1/system/health").json()
        return found if found["status"] == "ok" else None

    assert until(health)["queue"] == {"waiting": 0, "executing": 0}
    assert list((day.devkit.state / "work").iterdir()) == []
    assert "Traceback" not in day.devkit.log_text()


def test_failures_are_listed_by_their_status(day: BadDay) -> None:
    for name in CASES:
        day.ended(name)
    for status in ("failed", "timed_out"):
        listed = day.devkit.request("GET", f"/v1/api/module-runs?status={status}&limit=100").json()["runs"]
        expected = {day.run_ids[name] for name, case in CASES.items() if case.status == status}
        assert expected <= {run["id"] for run in listed}
        assert {run["status"] for run in listed} == {status}


def test_state_directory_keeps_no_token(day: BadDay) -> None:
    day.ended("prints-its-token")
    for path in below(day.devkit.state):
        if path.is_file() and "work" not in path.relative_to(day.devkit.state).parts:
            with suppress(FileNotFoundError):  # what is gone by now keeps nothing
                assert b"hla_runtoken_devkit" not in path.read_bytes(), path
