"""The official SDK and CLI, unmodified and as real processes, and the devkit's own commands.

The processes get what `python -m devkit_api env` prints and a private configuration directory, and nothing else.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.support.modules import manifest, write_module
from tests.support.process import DevkitProcess
from tests.support.waiting import PATIENCE, until

pytestmark = pytest.mark.process

ODD_LINES = [
    "[/tmp/x] opened",
    "[bold]not bold[/bold]",
    "closing [/] nothing",
    "[link=http://127.0.0.1/]a[/link]",
    "C:\\data\\",
    "\\[/escaped]",
    "{json: [1, 2]}",
]
COUNTER = f"""
self.report_progress(50, "counting")
for line in {ODD_LINES!r}:
    print(line)
return self.success(results={{"length": len(input_data["peptide"])}}, summary={{"length": len(input_data["peptide"])}})
"""
# Says where it is, goes on when it gets a signal and ends at the next: the tests need no clock to catch it at work.
WAITER = """
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
print("waiting in", os.getpid(), flush=True)
signal.sigwait([signal.SIGUSR1])
print("went on", flush=True)
signal.sigwait([signal.SIGUSR1])
return self.success(results={})
"""
INPUTS = {"type": "object", "required": ["peptide"], "properties": {"peptide": {"type": "string"}}}
HLA_COMPASS = str(Path(sys.executable).with_name("hla-compass"))
SECONDS = PATIENCE


@attrs.frozen
class Desk:
    """A user's shell beside a running devkit."""

    devkit: DevkitProcess
    folder: Path
    environment: dict[str, str]

    def run(self, *command: str, exit_code: int = 0, **options: Any) -> subprocess.CompletedProcess[str]:
        options = {"env": self.environment, "cwd": self.folder, **options}
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False, **options)
        assert done.returncode == exit_code, (command, done.stdout, done.stderr)
        assert "Traceback" not in done.stdout + done.stderr
        return done

    def hla(self, *arguments: str, exit_code: int = 0) -> str:
        return self.run(HLA_COMPASS, *arguments, exit_code=exit_code).stdout

    def own(self, *arguments: str, exit_code: int = 0, **options: Any) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "devkit_api", *arguments, exit_code=exit_code, **options)

    def sdk(self, code: str) -> Any:
        """What `answer` is after this code, in a process of its own with `client = APIClient()`."""
        program = (
            f"import json\nfrom hla_compass import APIClient\nclient = APIClient()\n{code}\nprint(json.dumps(answer))"
        )
        return json.loads(self.run(sys.executable, "-c", program).stdout)

    def json_file(self, name: str, content: Any) -> str:
        path = self.folder / name
        path.write_text(json.dumps(content))
        return str(path)

    @contextmanager
    def started(self, *command: str) -> Iterator[subprocess.Popen[str]]:
        with subprocess.Popen(
            command, env=self.environment, cwd=self.folder, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            try:
                yield process
            finally:
                process.kill()  # one that does not end must not keep the tests from ending


def _exports(text: str) -> dict[str, str]:
    return dict(part.split("=", 1) for line in text.splitlines() for part in shlex.split(line)[1:])


def _desk(devkit: DevkitProcess, folder: Path) -> Desk:
    """The environment of the `env` command's lines, and nothing else that either side knows."""
    plain = {k: v for k, v in devkit.environment().items() if not k.startswith("DEVKIT_")}
    printed = subprocess.run(
        [sys.executable, "-m", "devkit_api", "env"], env=devkit.environment(), cwd=folder,
        capture_output=True, text=True, timeout=SECONDS, check=True,
    )  # fmt: skip
    exports = _exports(printed.stdout)
    assert exports.keys() == {"HLA_API_ENDPOINT", "HLA_API_KEY"}
    config = folder / "sdk-config"
    config.mkdir()
    # The CLI asks PyPI for its newest version once a day; here it has just done so.
    (config / ".version-cache").write_text(json.dumps({"latest": "6.0.2", "checked_at": time.time()}))
    return Desk(devkit, folder, {**plain, **exports, "HLA_COMPASS_CONFIG_DIR": str(config), "COLUMNS": "200"})


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    root = tmp_path_factory.mktemp("desk")
    write_module(root / "modules" / "peptide-counter", COUNTER, inputs=INPUTS, description="Counts residues")
    write_module(root / "modules" / "waiter", WAITER)
    write_module(root / "modules" / "broken", 'self.error("no [/luck] today")')
    write_module(
        root / "modules" / "workflow-only",
        execution={"entrypoint": "backend.main:Probe", "supports": ["workflow"]},
    )
    slow = {"memory": 512, "timeout": 3}
    write_module(root / "modules" / "slow", "import signal\nsignal.pause()\nwhile True:\n    pass", resources=slow)
    # Pids that modules print are signalled.
    settings = {"workers": 4, "shutdown_grace": 1, "isolation": "process", "interactive_timeout": 55}
    with DevkitProcess(root / "devkit", root / "modules", **settings) as devkit:
        yield _desk(devkit, root)


@pytest.fixture(scope="module")
def counted(desk: Desk) -> str:
    """A completed run of the counter."""
    run = desk.devkit.wait(desk.devkit.run("peptide-counter", {"peptide": "SIINFEKL"})["runId"])
    assert run["status"] == "completed"
    return str(run["runId"])


def _together(*calls: Callable[[], Any]) -> list[Any]:
    """Results of calls that do not depend on each other: most of a command's time is its own start."""
    with ThreadPoolExecutor(3) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def _waiting(desk: Desk) -> tuple[str, int]:
    """A run of the waiter that has begun to wait, and its process."""
    run_id = desk.devkit.run("waiter")["runId"]
    path = f"/v1/module-runs/{run_id}/logs"
    found = until(lambda: re.search(r"waiting in (\d+)", desk.devkit.request("GET", path).text))
    return run_id, int(found[1])


def test_auth_status_check(desk: Desk) -> None:
    assert "developer_api_key" in desk.hla("auth", "status", "--check")
    wrong = attrs.evolve(desk, environment={**desk.environment, "HLA_API_KEY": "wrong-key-0123456789"})
    assert "developer_api_key" not in wrong.hla("auth", "status", "--check", exit_code=1)


def test_modules_list_and_show(desk: Desk) -> None:
    table, listed, shown, by_prefix, _ = _together(
        partial(desk.hla, "modules", "list"),
        partial(desk.hla, "modules", "list", "--format", "json"),
        partial(desk.hla, "modules", "show", "peptide-counter"),
        partial(desk.hla, "modules", "show", "peptide-", "--format", "json"),
        partial(desk.hla, "modules", "show", "not-there", exit_code=1),
    )
    assert "peptide-counter" in table
    assert "1.0.0" in table
    names = {"peptide-counter", "waiter", "broken", "workflow-only", "slow"}
    assert names <= {module["id"] for module in json.loads(listed)}
    assert "Counts residues" in shown
    assert "ready" in shown
    assert json.loads(by_prefix)["id"] == "peptide-counter"


def test_prepare_and_confirm_twice_is_one_run(desk: Desk) -> None:
    inputs = desk.json_file("inputs.json", {"peptide": "GILGFVFTL"})
    plan = desk.hla("runs", "prepare", "peptide-counter", "--inputs", inputs, "--mode", "async")
    (desk.folder / "plan.json").write_text(plan)
    before = desk.devkit.request("GET", "/v1/module-runs").json()["pagination"]["total"]
    first, second = (json.loads(desk.hla("runs", "confirm", "plan.json")) for _ in range(2))
    assert first["runId"] == second["runId"]
    assert desk.devkit.request("GET", "/v1/module-runs").json()["pagination"]["total"] == before + 1
    assert desk.devkit.wait(first["runId"])["summary"] == {"length": 9}

    changed = json.loads(plan)
    changed["preparedRequest"]["parameters"]["peptide"] = "SIINFEKL"
    refused = desk.run(HLA_COMPASS, "runs", "confirm", desk.json_file("changed.json", changed), exit_code=1)
    assert "changed after it was prepared" in refused.stderr


def test_prepare_refuses_bad_inputs(desk: Desk) -> None:
    inputs = desk.json_file("bad.json", {"peptide": 9})
    refused = desk.run(HLA_COMPASS, "runs", "prepare", "peptide-counter", "--inputs", inputs, exit_code=1)
    assert "/peptide" in refused.stderr


def test_runs_status_and_results(desk: Desk, counted: str) -> None:
    printed, answered, refused = _together(
        partial(desk.hla, "runs", "status", counted),
        partial(desk.hla, "runs", "results", counted),
        partial(desk.run, HLA_COMPASS, "runs", "status", "not-a-run", exit_code=1),
    )
    status = json.loads(printed)
    assert (status["status"], status["run_id"], status["module_id"]) == ("completed", counted, "peptide-counter")
    assert status["progress"]["percent"] == 50
    results = json.loads(answered)
    assert results["data"]["results"] == {"length": 8}
    assert results["timestamps"]["finishedAt"]
    assert "not-a-run" in refused.stderr


def test_runs_logs_prints_odd_brackets_as_they_are(desk: Desk, counted: str) -> None:
    lines = desk.hla("runs", "logs", counted).splitlines()
    assert [line for line in lines if line in ODD_LINES] == ODD_LINES
    # Who does not render markup gets the text as it was.
    plain = desk.devkit.request("GET", f"/v1/module-runs/{counted}/logs").json()["events"]
    assert [event["message"] for event in plain if event["message"] in ODD_LINES] == ODD_LINES


def test_runs_logs_latest_and_of_a_failed_run(desk: Desk) -> None:
    run_id = desk.devkit.wait(desk.devkit.run("broken")["runId"])["runId"]
    printed = desk.hla("runs", "logs", "--latest")
    assert run_id in printed
    assert "Run failed: MODULE_ERROR: no [/luck] today" in printed.splitlines()


def test_runs_logs_follow_shows_a_run_at_work_and_each_line_once(desk: Desk) -> None:
    run_id, pid = _waiting(desk)
    with desk.started(HLA_COMPASS, "runs", "logs", run_id, "--follow") as follower:
        assert follower.stdout is not None
        seen: list[str] = []
        # The SDK stops at the end of a run, and may then have asked for its lines before: it ends when all were seen.
        for line in ("waiting in", "went on"):
            while not seen or line not in seen[-1]:
                seen.append(follower.stdout.readline())
                assert seen[-1], seen
            os.kill(pid, signal.SIGUSR1)
        rest, errors = follower.communicate(timeout=SECONDS)
    assert (follower.returncode, errors.count("Traceback")) == (0, 0)
    lines = "".join([*seen, rest]).splitlines()
    assert (lines.count(f"waiting in {pid}"), lines.count("went on")) == (1, 1)
    assert desk.devkit.wait(run_id)["status"] == "completed"


def test_runs_cancel(desk: Desk) -> None:
    run_id, _ = _waiting(desk)
    assert run_id in desk.hla("runs", "cancel", run_id)
    run = desk.devkit.wait(run_id)
    assert (run["status"], run["error"]["code"]) == ("cancelled", "RUN_CANCELLED")
    assert "went on" not in desk.hla("runs", "logs", run_id)
    desk.hla("runs", "cancel", run_id)


def test_run_waits_and_exits_by_outcome(desk: Desk) -> None:
    inputs = desk.json_file("wait.json", {"peptide": "YLEPGPVTA"})
    waiting = ("--wait", "--poll-interval", "0.1")
    good = ("--parameters", inputs, *waiting)
    interactive, by_name, failed, refused = _together(
        partial(desk.hla, "run", "peptide-counter", *good),
        partial(desk.hla, "run", "--module-name", "peptide-counter", "--mode", "async", *good),
        partial(desk.hla, "run", "broken", *waiting, exit_code=1),
        partial(desk.hla, "run", "peptide-counter", *waiting, exit_code=1),
    )
    assert '"length": 9' in interactive
    assert "Run succeeded" in interactive
    assert "Run succeeded" in by_name
    assert "Run failed: no [/luck] today" in failed
    assert "422" in refused


def test_api_client_starts_waits_and_reads(desk: Desk) -> None:
    answer = desk.sdk(
        """
        started = client.start_module_run("peptide-counter", parameters={"peptide": "SIINFEKL"})
        queued = client.start_module_run("peptide-counter", parameters={"peptide": "SIINFEK"}, mode="async")
        waited = client.wait_for_module_run(queued["run_id"], timeout=180, poll_interval=0.1)
        again = client.get_module_run_result(started["_run"]["runId"])
        plan = client.prepare_module_run("peptide-counter", parameters={"peptide": "SII"}, mode="interactive")
        prepared = [client.start_prepared_module_run(plan) for _ in range(2)]
        listed = client.list_module_runs(module_id="peptide-counter", status="completed", limit=2)
        older = client.list_module_runs(module_id="peptide-counter", status="completed", limit=2, page=2)
        answer = dict(started=started, queued=queued, waited=waited, again=again, plan=plan, prepared=prepared,
                      listed=listed, older=older)
        """.replace("\n        ", "\n")
    )
    assert answer["started"]["status"] == "success"
    assert answer["started"]["results"] == {"length": 8}
    assert answer["started"]["_run"]["status"] == "completed"
    assert answer["queued"]["status"] == "queued"
    assert answer["waited"]["status"] == "completed"
    assert answer["waited"]["data"]["results"] == {"length": 7}
    assert answer["again"]["data"] == {k: v for k, v in answer["started"].items() if k in answer["again"]["data"]}
    assert answer["again"]["payload"] == {"peptide": "SIINFEKL"}
    assert re.fullmatch(r"[0-9a-f]{64}", answer["plan"]["requestFingerprint"])
    first, second = answer["prepared"]
    assert first["run_id"] == second["run_id"]
    assert first["results"] == {"length": 3}
    ids = [run["run_id"] for page in ("listed", "older") for run in answer[page]["runs"]]
    assert len(answer["listed"]["runs"]) == 2
    assert ids[:3] == [first["run_id"], answer["queued"]["run_id"], answer["started"]["run_id"]]
    assert len(set(ids)) == len(ids)


def test_api_client_reports_failures(desk: Desk) -> None:
    answer = desk.sdk(
        """
        from hla_compass import APIError
        answer = {}
        def attempt(name, call):
            try:
                answer[name] = ["no error", call()]
            except APIError as exc:
                answer[name] = [exc.status_code, str(exc)]
        attempt("input", lambda: client.start_module_run("peptide-counter", parameters={"peptide": 1}))
        attempt("module", lambda: client.start_module_run("not-there"))
        run = client.start_module_run("broken", mode="async")
        attempt("run", lambda: client.wait_for_module_run(run["run_id"], timeout=180, poll_interval=0.1))
        attempt("result", lambda: client.get_module_run_result("devkit-run-not-there"))
        """.replace("\n        ", "\n")
    )
    assert answer["input"][0] == 422
    assert "/peptide" in answer["input"][1]
    assert answer["module"][0] == 404
    assert "'not-there' is not registered" in answer["module"][1]
    assert "no \\[/luck] today" in answer["run"][1]  # softened: the CLI prints this text as Rich markup
    assert answer["result"][0] == 404


def test_iter_modules_reads_every_page_once(desk: Desk) -> None:
    extra = [f"page-filler-{number}" for number in range(7)]
    for name in extra:
        sent = desk.devkit.request("POST", "/v1/devkit/modules", json={"manifest": manifest(name, category="fill")})
        assert sent.status_code == 201, sent.text
    answer = desk.sdk(
        "answer = [[m['id'] for m in client.iter_modules(page_size=size, **more)]"
        " for size, more in [(3, {}), (7, {'category': 'fill'}), (2, {'category': 'fill'}), (100, {})]]"
    )
    everything, exact, filtered, at_once = answer
    assert everything == at_once
    assert len(everything) == len(set(everything))
    assert set(extra) | {"peptide-counter", "waiter"} <= set(everything)
    assert sorted(exact) == sorted(filtered) == extra
    for name in extra:
        assert desk.devkit.request("DELETE", f"/v1/devkit/modules/{name}").status_code == 200


def test_own_register_and_run(desk: Desk, tmp_path: Path) -> None:
    folder = write_module(tmp_path / "uploaded", 'print("[/odd] line")\nreturn self.success(results={"n": 1})')
    assert "uploaded 1.0.0" in desk.own("register", str(folder)).stdout
    registered = json.loads(desk.own("register", str(folder), "--json").stdout)
    assert registered["module"]["source"]["origin"] == "upload"
    followed, printed, workflow = _together(
        partial(desk.own, "run", "uploaded", "--follow"),
        partial(desk.own, "run", "uploaded", "--json"),
        partial(desk.own, "run", "workflow-only", "--json"),
    )
    assert "[/odd] line" in followed.stderr.splitlines()
    assert "completed" in followed.stdout
    assert json.loads(printed.stdout)["data"]["results"] == {"n": 1}
    assert json.loads(workflow.stdout)["status"] == "completed"


def test_own_register_refuses_what_is_no_module(desk: Desk, tmp_path: Path) -> None:
    assert "has no manifest.json" in desk.own("register", str(tmp_path), exit_code=1).stderr
    broken = write_module(tmp_path / "uploaded-broken", version="one")
    refused = desk.own("register", str(broken), exit_code=1).stderr
    assert "MANIFEST_INVALID" in refused
    assert "/version" in refused


def test_own_run_takes_its_input_and_exits_by_outcome(desk: Desk) -> None:
    good = desk.json_file("good.json", {"peptide": "SIINFEKL"})
    (desk.folder / "no.json").write_text("{")
    slow, shown, piped, failed, failed_json, refused, unknown, unreadable = _together(
        partial(desk.own, "run", "slow", "--json", exit_code=4),
        partial(desk.own, "run", "peptide-counter", "--input", good),
        partial(desk.own, "run", "peptide-counter", "--input", "-", "--json", input='{"peptide": "SII"}'),
        partial(desk.own, "run", "broken", exit_code=1),
        partial(desk.own, "run", "broken", "--json", exit_code=1),
        partial(desk.own, "run", "peptide-counter", exit_code=1),
        partial(desk.own, "run", "not-there", exit_code=1),
        partial(desk.own, "run", "peptide-counter", "--input", "no.json", exit_code=1),
    )
    assert json.loads(slow.stdout)["error"]["code"] == "RUN_TIMED_OUT"
    assert "length" in shown.stdout
    assert json.loads(piped.stdout)["data"]["results"] == {"length": 3}
    assert "MODULE_ERROR no [/luck] today" in failed.stdout
    assert json.loads(failed_json.stdout)["error"]["code"] == "MODULE_ERROR"
    assert "INPUT_INVALID" in refused.stderr
    assert "/peptide" in refused.stderr
    assert "MODULE_NOT_FOUND" in unknown.stderr
    assert "not JSON" in unreadable.stderr


def test_own_run_cancels_on_ctrl_c(desk: Desk) -> None:
    with desk.started(sys.executable, "-m", "devkit_api", "run", "waiter", "--follow") as running:
        assert running.stderr is not None
        line = running.stderr.readline()
        while "waiting in" not in line:
            assert line
            line = running.stderr.readline()
        running.send_signal(signal.SIGINT)
        shown, errors = running.communicate(timeout=SECONDS)
    assert (running.returncode, "Traceback" in errors) == (3, False)
    assert "RUN_CANCELLED" in shown


def test_a_run_that_waits_for_a_backend_says_so_and_how_one_attaches(desk: Desk) -> None:
    body = {"manifest": manifest("elsewhere")}
    assert desk.devkit.request("POST", "/v1/devkit/modules", json=body).status_code == 201
    with desk.started(sys.executable, "-m", "devkit_api", "run", "elsewhere", "--json") as running:
        assert running.stderr is not None
        told = running.stderr.readline() + running.stderr.readline()
        run_id, token = re.search(r"devkit-run-\w+", told), re.search(r"hla_runtoken_\S+", told)
        assert run_id, told
        assert token, told
        path = f"/v1/module-runs/{run_id[0]}"
        assert f"POST {path}/heartbeat" in told
        logs, status = _together(
            partial(desk.hla, "runs", "logs", run_id[0]), partial(desk.hla, "runs", "status", run_id[0])
        )
        assert "waits for a backend" in logs
        assert "waits for a backend" in status
        # Whoever follows the log is told once, not at every look.
        token_of_page = desk.devkit.request("GET", path + "/logs").json()["nextForwardToken"]
        assert "message" not in desk.devkit.request("GET", f"{path}/logs?nextToken={token_of_page}").json()
        attached = desk.devkit.request("POST", path + "/heartbeat", key=token[0])
        assert attached.status_code == 200, attached.text
        run = desk.devkit.request("GET", path).json()
        assert (run["status"], run["waitingFor"]) == ("running", None)
        end = {"status": "completed", "result": {"status": "success", "results": {"n": 1}}}
        assert desk.devkit.request("POST", path + "/complete", key=token[0], json=end).status_code == 200
        shown, errors = running.communicate(timeout=SECONDS)
    assert running.returncode == 0, errors
    assert json.loads(shown)["data"]["results"] == {"n": 1}


def test_own_commands_without_a_devkit(desk: Desk, tmp_path: Path) -> None:
    plain = {k: v for k, v in desk.environment.items() if not k.startswith("HLA_")}
    nowhere = attrs.evolve(desk, folder=tmp_path, environment=plain)
    assert "start the devkit there first" in nowhere.own("env", exit_code=1).stderr
    # Port 9 is "discard": nothing answers there.
    unreachable = attrs.evolve(desk, environment={**desk.environment, "HLA_API_ENDPOINT": "http://127.0.0.1:9"})
    assert "no devkit answers at http://127.0.0.1:9" in unreachable.own("run", "waiter", exit_code=1).stderr
    wrong = attrs.evolve(desk, environment={**desk.environment, "HLA_API_KEY": "wrong-key-0123456789"})
    assert "UNAUTHORIZED" in wrong.own("run", "waiter", exit_code=1).stderr


def test_own_doctor(desk: Desk, tmp_path: Path) -> None:
    plain = {k: v for k, v in desk.environment.items() if not k.startswith("HLA_")}
    here = attrs.evolve(desk, folder=tmp_path, environment={**plain, "DEVKIT_API_KEY": "a-secret-0123456789"})
    narrow = attrs.evolve(here, environment={**here.environment, "COLUMNS": "80"})
    printed = narrow.own("doctor", "--settings").stdout
    report = json.loads(here.own("doctor", "--json").stdout)
    # At the width of a plain terminal every name is whole, with its value and where that came from.
    for row in report["settings"]:
        assert f"{row['variable']} = {row['value']}  ({row['source']})\n" in printed
    indented = [line for line in printed.splitlines() if line[:4].isspace() and not line[4].isspace()]
    assert len(indented) >= len(report["settings"])
    assert max(map(len, indented)) <= 80
    assert report["ok"] is True
    rows = {row["variable"]: row for row in report["settings"]}
    assert (rows["DEVKIT_API_KEY"]["value"], rows["DEVKIT_API_KEY"]["source"]) == ("********", "environment")
    assert (rows["DEVKIT_PORT"]["value"], rows["DEVKIT_PORT"]["source"]) == ("4100", "default")
    assert "a-secret-0123456789" not in printed + json.dumps(report)
    # What is seen without asking for more: what was set, what was found, and whether it is enough.
    short = here.own("doctor").stdout
    assert "DEVKIT_API_KEY = ********  (environment)" in short
    assert "DEVKIT_PORT" not in short
    assert len(short.splitlines()) <= 24
    assert short.splitlines()[-1].startswith("The devkit can start")

    wrong = {**plain, "DEVKIT_PORT": "many", "DEVKIT_WORKERS": "0", "DEVKIT_PROT": "1"}
    bad = attrs.evolve(here, environment=wrong)
    problems = json.loads(bad.own("doctor", "--json", exit_code=1).stdout)
    assert problems["ok"] is False
    assert {problem["variable"] for problem in problems["problems"]} == {"DEVKIT_PORT", "DEVKIT_WORKERS"}
    long_name = {**wrong, "DEVKIT_INTERACTIVE_TIMEOUT": "soon", "COLUMNS": "80"}
    table, _, _ = attrs.evolve(bad, environment=long_name).own("doctor", exit_code=1).stderr.partition("└")
    for name in ("DEVKIT_PORT", "DEVKIT_WORKERS", "DEVKIT_INTERACTIVE_TIMEOUT"):
        assert name in table


def test_help_names_the_command_as_it_was_started(desk: Desk) -> None:
    assert desk.own("--help").stdout.startswith("Usage: python -m devkit_api [OPTIONS] ")
    as_script = "import sys; from devkit_api.cli import main; sys.argv = ['/opt/bin/devkit', 'run', '--help']; main()"
    assert desk.run(sys.executable, "-c", as_script).stdout.startswith("Usage: devkit run ")


class _GeneratedKey(DevkitProcess):
    """A first start on a machine where nobody has set a key."""

    def environment(self) -> dict[str, str]:
        return {k: v for k, v in super().environment().items() if k != "DEVKIT_API_KEY"}


def test_generated_key_works_through_eval_and_reset_empties(tmp_path: Path) -> None:
    with _GeneratedKey(tmp_path / "devkit") as devkit:
        fresh = _desk(devkit, tmp_path)
        assert fresh.environment["HLA_API_KEY"].startswith("hla_devkit_")
        folder = write_module(tmp_path / "mine")
        fresh.own("register", str(folder))
        fresh.own("run", "mine")
        assert [module["id"] for module in fresh.sdk("answer = client.list_modules()")] == ["mine"]
        fresh.own("reset", input="n\n", exit_code=1)
        assert len(fresh.sdk("answer = client.list_modules()")) == 1
        assert "empty" in fresh.own("reset", "--yes").stdout
        assert fresh.sdk("answer = [client.list_modules(), client.list_module_runs()['runs']]") == [[], []]
        fresh.own("register", str(folder))


def test_env_survives_eval_with_any_key(tmp_path: Path) -> None:
    key = 'it\'s-a-$HOME-`id`-"key"-;exit-0123456789'
    environ = {**DevkitProcess(tmp_path).environment(), "DEVKIT_API_KEY": key, "DEVKIT_JWT_SECRET": "k" * 4 + key}
    script = f'eval "$({sys.executable} -m devkit_api env)" && printf %s "$HLA_API_KEY"'
    done = subprocess.run(
        ["bash", "-c", script], env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert (done.returncode, done.stdout) == (0, key)
    assert "no devkit answers" in done.stderr  # beside what `eval` takes
