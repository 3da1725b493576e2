"""`POST /api/execute`: one call runs a module through the run service and answers its envelope."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.modules import drop_module, write_module
from tests.support.process import DevkitProcess

pytestmark = pytest.mark.process

INPUTS = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
WORK = """
if input_data["n"] < 0:
    self.error("below zero")
return self.success(results={"double": 2 * input_data["n"], "mode": context["mode"]})
"""


@pytest.fixture(scope="module")
def devkit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevkitProcess]:
    root = tmp_path_factory.mktemp("execute")
    write_module(root / "mods" / "paged", WORK, type="with-ui", inputs=INPUTS)
    write_module(root / "mods" / "plain", WORK, inputs=INPUTS)
    with DevkitProcess(root / "devkit", root / "mods", interactive_timeout=55) as devkit:
        yield devkit


def execute(devkit: DevkitProcess, **body: Any) -> Any:
    return devkit.request("POST", "/api/execute", json=body)


def test_the_one_module_with_a_page_runs_and_leaves_a_run(devkit: DevkitProcess) -> None:
    answer = execute(devkit, input={"n": 21})
    assert answer.status_code == 200, answer.text
    assert (answer.json()["status"], answer.json()["results"]["double"]) == ("success", 42)
    latest = devkit.request("GET", "/v1/module-runs?limit=1&order=desc").json()["runs"][0]
    assert (latest["moduleId"], latest["status"]) == ("paged", "completed")
    assert answer.json()["results"]["mode"] == "interactive"


def test_a_named_module_needs_no_page(devkit: DevkitProcess) -> None:
    assert execute(devkit, input={"n": 1}, module="plain").json()["results"]["double"] == 2


def test_an_error_of_the_module_is_its_envelope(devkit: DevkitProcess) -> None:
    envelope = execute(devkit, input={"n": -1}).json()
    assert envelope["status"] == "error"
    assert "below zero" in envelope["error"]["message"]


def test_what_does_not_fit_is_refused_with_its_path(devkit: DevkitProcess) -> None:
    answer = execute(devkit, input={"n": "many"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "INPUT_INVALID")
    assert answer.json()["error"]["details"]["errors"][0]["path"] == "/n"
    for body in ({}, {"input": []}, {"input": {}, "modul": "x"}, {"input": {}, "module": "../x"}):
        answer = execute(devkit, **body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "REQUEST_INVALID"), body
    assert execute(devkit, input={}, module="unknown").status_code == 404
    assert devkit.request("POST", "/api/execute", key=None, json={"input": {"n": 1}}).status_code == 401


def test_which_module_is_asked_for_when_it_is_not_clear(
    make_devkit: Callable[..., DevkitProcess], tmp_path: Path
) -> None:
    (tmp_path / "mods").mkdir()
    with make_devkit(modules=tmp_path / "mods", interactive_timeout=55) as devkit:
        none = execute(devkit, input={})
        assert (none.status_code, none.json()["error"]["code"]) == (422, "MODULE_NOT_CHOSEN")
        for name in ("one", "two"):
            source = {"path": str(drop_module(tmp_path / "mods", name, type="with-ui"))}
            answer = devkit.request("POST", "/v1/devkit/modules", json={"source": source})
            assert answer.status_code in {200, 201}, answer.text  # the watcher may have been first
        several = execute(devkit, input={})
        assert several.json()["error"]["details"]["modules"] == ["one", "two"]
        assert execute(devkit, input={}, module="two").json()["status"] == "success"


def test_a_run_that_does_not_end_in_time_is_an_error_and_goes_on(
    make_devkit: Callable[..., DevkitProcess], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    work = f"""
open({str(gate)!r}).read()  # until the test has opened the other end, and closed it
return self.success(results={{}})
"""
    write_module(tmp_path / "mods" / "waits", work, type="with-ui")
    tmp_path.chmod(0o755)
    with make_devkit(modules=tmp_path / "mods", interactive_timeout=0.2, isolation="process") as devkit:
        answer = execute(devkit, input={})
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "RUN_NOT_FINISHED")
        gate.write_text("")
        assert devkit.wait(answer.json()["error"]["details"]["runId"])["status"] == "completed"
