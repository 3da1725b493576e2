"""Every command and program of README and docs is executed, page by page and in order, as a reader would: for real."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path

import certifi
import psutil
import pytest

from tests.support import pages
from tests.support.documents import FENCE, SHELLS, SHOWN, Command, blocks
from tests.support.pages import NAMES, every_command, parts_of, row, session_of, steps_of
from tests.support.process import REPO, DevkitProcess
from tests.support.publishing import SDK_WHEEL, simple_index
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.process

# What a shell may have that changes what programs print: a build machine's asks some of them for colours.
COLOURS = ("CI", "FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE", "PY_COLORS")
# Settings of a devkit, of the SDK and of tools are not those of a reader.
SETTINGS = ("DEVKIT_", "HLA_", "UV_", "PIP_", "PYTEST")
# What a module's author has, not what this suite has besides.
PLUGINS = "-p asyncio -p aiohttp -p devkit_api.testing.plugin -p no:cacheprovider"


class Shared(DevkitProcess):
    """The devkit of the pages that speak to one that is running: its state is where a reader's is."""

    def __init__(self, root: Path, settings: dict[str, str]) -> None:
        super().__init__(root)
        self._settings = settings

    def environment(self) -> dict[str, str]:
        return self._settings

    def reset(self) -> None:
        """As new, for the next page."""
        text = (self.root / ".devkit" / "credentials.env").read_text()
        [key] = re.findall(r"^DEVKIT_API_KEY=(\S+)$", text, re.MULTILINE)
        self.request("POST", "/v1/devkit/reset", key=key).raise_for_status()


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Not pytest's own: for root, modules and the embedded database run as other users."""
    with tempfile.TemporaryDirectory(prefix="devkit-documents-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def repository(folder: Path) -> Path:
    """A clone, with this environment in the place where the scripts make one."""
    target = folder / "clone"
    shutil.copytree(REPO, target, ignore=_not_cloned)
    (target / ".venv").symlink_to(sys.prefix)
    return target


def _not_cloned(folder: str, names: list[str]) -> set[str]:
    made = {".git", ".venv", ".devkit", "node_modules", "dist", ".hypothesis"}
    made |= {name for name in names if name.endswith("_cache")}
    if "devkit_api" not in folder:  # there it saves compiling it
        made.add("__pycache__")
    # Named so while another process compiles it, and gone a moment later.
    made |= {name for name in names if re.search(r"\.pyc\.\d+$", name)}
    return made | ({"tests"} if Path(folder) == REPO else set())


@pytest.fixture(scope="module")
def certificates(folder: Path) -> Path:
    """A copy of certifi, as one page appends to its list."""
    shutil.copytree(Path(certifi.__file__).parent, folder / "site" / "certifi")
    return folder / "site"


@pytest.fixture(scope="module")
def surroundings(repository: Path, certificates: Path) -> Iterator[dict[str, str]]:
    """The variables of every page's shell."""
    kept = of_a_reader(os.environ)
    # A package index that knows the SDK.
    with simple_index({"hla-compass": ("6.0.2", SDK_WHEEL)}) as index:
        yield {
            **kept,
            "NO_COLOR": "1",
            "PATH": f"{Path(sys.executable).parent}:{kept['PATH']}",
            "PYTHONPATH": f"{certificates}:{repository}",
            "USE_VENV": sys.prefix,
            "NODE_MODULES": str(pages.NODE_MODULES),
            "DEVKIT_PORT": "0",
            "DEVKIT_CATALOGS": "off",
            "HLA_COMPASS_SKIP_VERSION_CHECK": "1",
            "HLA_RATE_LIMIT_MAX_REQUESTS": "10000",
            "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
            "UV_DEFAULT_INDEX": index,
            "UV_NO_CACHE": "1",
            "UV_NO_CONFIG": "1",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONFAULTHANDLER": "1",
            "COLUMNS": "200",
        }


def of_a_reader(variables: Mapping[str, str]) -> dict[str, str]:
    """Those that every page's shell may have from the one the tests run in."""
    return {k: v for k, v in variables.items() if k not in COLOURS and not k.startswith(SETTINGS)}


@pytest.fixture(scope="module")
def shared(folder: Path, surroundings: dict[str, str]) -> Iterator[Shared]:
    with Shared(folder / "shared", {**surroundings, "DEVKIT_CATALOGS": "on"}) as devkit:
        yield devkit


@pytest.fixture
def session(page: str, folder: Path, request: pytest.FixtureRequest) -> Path:
    """A page's own folder, with `home/work` in it."""
    session = folder / re.sub(r"\W+", "-", page.removesuffix(".md")).strip("-")
    work = session / "home" / "work"
    work.mkdir(parents=True)
    if page in pages.SHARING:
        devkit: Shared = request.getfixturevalue("shared")
        (work / ".devkit").symlink_to(devkit.root / ".devkit")
        request.addfinalizer(devkit.reset)
    return session


@pytest.mark.parametrize("page", [name for name in NAMES if session_of(name)])
def test_the_commands_of(page: str, session: Path, repository: Path, surroundings: dict[str, str]) -> None:
    home = session / "home"
    inside = dict.fromkeys(pages.IN_THE_REPOSITORY, repository)
    inside |= {name: (repository / name).parent for name in pages.IN_THEIR_FOLDER}
    # Suites of the templates run whole in scripts/test.sh; a part of each shows here that the commands work.
    chosen = "" if page == "docs/testing.md" else "-k published"
    variables = {
        **surroundings, "HOME": str(home), "SESSION": str(session), "HLA_COMPASS_CONFIG_DIR": str(home / "sdk"),
        "PYTEST_ADDOPTS": f"{PLUGINS} --basetemp={session / 'pytest'} {chosen}",
    }  # fmt: skip
    (session / "script").write_text(session_of(page))
    code = _run(session, inside.get(page, home / "work"), variables)
    assert code == 0, "\n".join([str(code), *(_tail(session / name) for name in ("output", "server.log", "page.log"))])


def _run(session: Path, folder: Path, variables: dict[str, str]) -> int | str:
    """The script's exit code, or what its processes were doing when it took too long."""
    with (session / "output").open("w") as output:
        shell = subprocess.Popen(
            ["bash", str(session / "script")], cwd=folder, env=variables,
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        return shell.wait(timeout=3 * PATIENCE)
    except subprocess.TimeoutExpired:
        return _ended([psutil.Process(shell.pid), *psutil.Process(shell.pid).children(recursive=True)])
    finally:
        shell.wait()


def _ended(processes: list[psutil.Process]) -> str:
    """What these were; a Python among them says in its output where it was, as PYTHONFAULTHANDLER asks for."""
    told = []
    for process in processes:
        with suppress(psutil.Error):
            told.append(f"{process.pid} {process.ppid()} {process.status()} {' '.join(process.cmdline())[:200]}")
            process.send_signal(signal.SIGABRT)
    for process in psutil.wait_procs(processes, timeout=5)[1]:
        with suppress(psutil.Error):
            process.kill()
    return "it took too long:\n" + "\n".join(told)


def _tail(log: Path) -> str:
    return f"--- {log.name}\n{log.read_text()[-6000:]}" if log.exists() else ""


def test_pages_are_the_same_on_a_build_machine() -> None:
    """`npm run dev` colours its address there, and nothing would find it."""
    asked = {"CI": "true", "FORCE_COLOR": "1", "DEVKIT_PORT": "1", "HOME": "/home/reader", "CIRCLE": "kept"}
    assert of_a_reader(asked) == {"HOME": "/home/reader", "CIRCLE": "kept"}


@pytest.mark.parametrize("name", NAMES)
def test_nothing_on_a_page_is_left_to_nobody(name: str) -> None:
    text = (REPO / name).read_text()
    found = blocks(REPO / name)
    assert len(re.findall(r"^\s*(?:```|~~~)", text, re.MULTILINE)) == 2 * len(found), "a fence of another kind"
    assert {block.language for block in found} <= {*SHELLS, *SHOWN, "python", "json", "yaml", "ini", "cfg"}
    done = {step.command.where for step in steps_of(name) if step.command}
    for command in every_command(name):
        listed = row(pages.NOT_RUN, command) or row(pages.REPEATED, command)
        assert listed or command.where in done, f"nothing executes {command.where}, and no table says why"


def test_what_is_a_command_is_fenced_as_one() -> None:
    """Indented or fenced as text, a command would be run by nobody."""
    begins = r"(?:python -m |hla-compass \w|\./?scripts/|pip install|docker |npm )"
    looks_like = re.compile(rf"^\s*(?:\$ )?{begins}", re.MULTILINE)
    for name in NAMES:
        for block in blocks(REPO / name):
            if block.language in SHOWN:
                assert not looks_like.search(block.code), f"{name}:{block.line}"
        outside = FENCE.sub("", (REPO / name).read_text())
        assert not re.search(rf"^ {{4,}}{begins}", outside, re.MULTILINE), name


def test_every_row_of_the_tables_is_still_needed() -> None:
    every = {name: every_command(name) for name in NAMES}
    tables = (
        pages.NOT_RUN, pages.REPEATED, pages.TYPED, pages.SAVED, pages.AROUND, pages.EARLIER, pages.ASSUMED,
        pages.AFTERWARDS,
    )  # fmt: skip
    for page, begin, *_ in chain.from_iterable(tables):
        assert [c for c in every[page] if c.text.startswith(begin)], f"{page} has no command {begin!r}"
    for page, old, _ in pages.REPLACED:
        assert [c for c in every[page] if old in c.text], f"{page} has no {old!r}"


@pytest.mark.parametrize("rest", pages.NOT_RUN, ids=lambda rest: f"{rest[0]}: {rest[1]}")
def test_what_is_not_run_here_is_run_elsewhere(rest: tuple[str, ...]) -> None:
    *_, path, words = rest
    assert words in (REPO / path).read_text()


@pytest.mark.parametrize("rest", pages.REPEATED, ids=lambda rest: f"{rest[0]}: {rest[1]}")
def test_what_is_a_repeat_is_run_by_the_other_page(rest: tuple[str, ...]) -> None:
    page, begin, other = rest
    done: set[str] = set()
    for step in steps_of(other):
        done |= parts_of(step.command.text) if step.command else set()
    for command in every_command(page):
        if command.text.startswith(begin):
            assert parts_of(command.text) <= done, command.where


def test_a_block_that_nothing_executes_is_found() -> None:
    unknown = Command("docs/testing.md:1", "self.storage.save_file('a', b'')", "module")
    assert not pages.can_be_done(unknown)
    assert pages.can_be_done(Command("docs/testing.md:1", "print()", "program")), "it is executed, whatever it is"
