"""Every command of README and docs is executed, page by page and in order, as a reader would: against a real devkit."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import attrs
import certifi
import pytest

from tests.support.documents import Command, blocks, commands, script, served
from tests.support.process import REPO
from tests.support.publishing import SDK_WHEEL, simple_index
from tests.support.waiting import PATIENCE, free_port

pytestmark = pytest.mark.process

PAGES = [*REPO.glob("*.md"), *REPO.glob("docs/**/*.md"), *REPO.glob("templates/**/README.md")]
NAMES = sorted(str(page.relative_to(REPO)) for page in PAGES if "node_modules" not in page.parts)

# Commands that cannot run where tests run: page, beginning, why.
NOT_RUN = (
    ("README.md", "./scripts/test.sh", "runs this test"),
    ("CONTRIBUTING.md", "./scripts/test.sh", "runs this test"),
    ("docs/deployment.md", "docker ", "needs a Docker engine; tests/test_containers.py runs the stack as processes"),
    ("docs/first-module.md", "npm ", "scripts/test.sh runs it in the template itself; it takes minutes"),
    ("templates/ui-template/README.md", "cd frontend && npm ci", "the same"),
    ("templates/ui-template/README.md", "npm ", "the same"),
    ("templates/ui-template/README.md", "hla-compass validate", "docs/first-module.md runs the same on this template"),
    ("templates/README.md", "(cd my-module && hla-compass validate", "the same"),
    ("docs/objects.md", "pip install 'hla-compass-devkit[s3]'", "asks a package index"),
    ("docs/scale-out.md", "pip install 'hla-compass-devkit[dask]'", "asks a package index"),
    ("docs/objects.md", "hla-compass data uploads upload", "wants https; tests/objects/test_uploads.py runs it"),
    (
        "docs/catalogs.md",
        "plan = api.prepare_module_run",
        "wants a saved view; tests/catalogs/test_view_inputs.py has one",
    ),
    ("docs/performance.md", "scripts/bench ", "measures for minutes, on a machine that does nothing else"),
)
DASK_PORT = free_port()
# What a reader replaces, or does in a larger way.
REPLACED = (
    ("README.md", "RUN_ID", "$(last 'devkit-run-[0-9a-f]+')"),
    ("docs/scale-out.md", "127.0.0.1:8786", f"127.0.0.1:{DASK_PORT}"),
    ("docs/scale-out.md", "--port 8786", f"--port {DASK_PORT}"),
    ("docs/objects.md", "=…", "=of-the-tests-0123456789"),
    ("docs/catalogs.md", "CATALOG_ID", "$(last '\"id\": \"[0-9a-f-]{36}' | cut -d'\"' -f4)"),
    ("docs/catalogs.md", "UPLOAD_ID", '$(last \'"uploadId": "[^"]+\' | cut -d\'"\' -f4)'),
    ("docs/catalogs.md", "--peptides 1000000 --samples 200", "--peptides 2000 --samples 4"),
)
# What is typed at a prompt.
TYPED = (("docs/security.md", "python -m devkit_api users add", "a long phrase of mine\na long phrase of mine"),)
# Pages whose Python talks to a devkit; the other programs are parts of modules and tests.
WITH_PYTHON = ("README.md", "docs/how-to.md", "docs/catalogs.md")
# Pages that speak of the repository's own folder, and of the one they lie in.
IN_THE_REPOSITORY = ("README.md", "CONTRIBUTING.md", "docs/deployment.md")
IN_THEIR_FOLDER = ("templates/ui-template/README.md", "templates/no-ui-template/README.md")

MODULE = "python -m devkit_api new my-module"
SERVE = served("python -m devkit_api serve")
ENVIRONMENT = 'eval "$(python -m devkit_api env)"'
# What a page assumes before the command that begins so; "" is the page's first.
ASSUMED = {
    ("docs/first-module.md", "DEVKIT_DATA_ROOTS="): "cd ~/modules && mkdir -p ~/study",
    ("docs/how-to.md", ""): f"{MODULE}\n{SERVE}\n{ENVIRONMENT}",
    ("docs/how-to.md", "python -m devkit_api export"): "stop_server",
    ("docs/objects.md", ""): f"{MODULE}\necho sequence >cohort.csv\n{served('python -m devkit_api serve --modules .')}",
    ("docs/objects.md", "python -m devkit_api tls init"): 'unset "${!DEVKIT_S3_@}"',
    ("docs/publish.md", ""): f"{MODULE}\n{SERVE}",
    ("docs/export-import.md", ""): f"{SERVE}\nstop_server",
    ("docs/security.md", ""): SERVE,
    # The page leaves scheduler and worker running; a reader closes the terminal.
    ("docs/scale-out.md", ""): (
        f"""{MODULE}\ntrap 'code=$?; trap - EXIT; stop_server; kill $(jobs -p) 2>/dev/null; wait; exit "$code"' EXIT"""
    ),
    ("docs/catalogs.md", ""): f"{SERVE}\n{ENVIRONMENT}",
    ("docs/catalogs.md", "python -m devkit_api catalog import"): (
        "printf 'sample_name,sequence,LFQ,normalized_intensity\\nS1,SLLMWITQC,12,12\\n' >rows.csv"
    ),
    ("docs/catalogs.md", "hla-compass data catalog create"): (
        'unset HLA_API_KEY; export HLA_ACCESS_TOKEN="$(python -m devkit_api token | tail -n 1)"'
    ),
    ("docs/catalogs.md", "hla-compass data views create"): (
        """echo '{"name": "nine", "sql": "SELECT peptide_id, sequence FROM peptides WHERE length = 9","""
        """ "providerKey": "local", "catalogKey": "melanoma"}' >nine.json"""
    ),
}


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
    return made | ({"tests"} if Path(folder) == REPO else set())


@pytest.fixture(scope="module")
def certificates(folder: Path) -> Path:
    """A copy of certifi, as one page appends to its list."""
    shutil.copytree(Path(certifi.__file__).parent, folder / "site" / "certifi")
    return folder / "site"


@pytest.fixture(scope="module")
def index() -> Iterator[str]:
    """A package index that knows the SDK."""
    with simple_index({"hla-compass": ("6.0.2", SDK_WHEEL)}) as address:
        yield address


def listed(table: tuple[tuple[str, str, str], ...], command: Command) -> str:
    """The third column of the row for this command."""
    page = command.where.rpartition(":")[0]
    return next((third for name, begin, third in table if name == page and command.text.startswith(begin)), "")


def replaced(command: Command) -> Command:
    page = command.where.rpartition(":")[0]
    for name, old, new in REPLACED:
        if name == page:
            command = attrs.evolve(command, text=command.text.replace(old, new))
    return command


def assumed(page: str, command: Command) -> str:
    return "\n".join(
        text for (name, begin), text in ASSUMED.items() if begin and name == page and command.text.startswith(begin)
    )


def session_of(page: str) -> str:
    """The page as a script; nothing when none of its commands can run here."""
    every = commands(REPO / page, page, with_python=page in WITH_PYTHON)
    run = [command for command in every if not listed(NOT_RUN, command)]
    steps = [(replaced(c), assumed(page, c), listed(TYPED, c)) for c in run]
    first = (None, ASSUMED.get((page, ""), ""), "")
    return script([first, *steps]) if run else ""


def environment(home: Path, index: str, certificates: Path, repository: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DEVKIT_", "HLA_", "UV_", "PIP_", "PYTEST"))}
    return {
        **kept,
        "HOME": str(home),
        "SESSION": str(home.parent),
        "PATH": f"{Path(sys.executable).parent}:{kept['PATH']}",
        "PYTHONPATH": f"{certificates}:{repository}",
        "USE_VENV": sys.prefix,
        "DEVKIT_PORT": "0",
        "DEVKIT_CATALOGS": "on" if home.parent.name == "docs-catalogs" else "off",
        "HLA_COMPASS_CONFIG_DIR": str(home / "sdk"),
        "HLA_COMPASS_SKIP_VERSION_CHECK": "1",
        "HLA_RATE_LIMIT_MAX_REQUESTS": "10000",
        "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
        "UV_DEFAULT_INDEX": index,
        "UV_NO_CACHE": "1",
        "UV_NO_CONFIG": "1",
        # Suites of the templates run whole in scripts/test.sh; a part of each shows here that the commands work.
        "PYTEST_ADDOPTS": "-p no:asyncio -p no:aiohttp -p no:cacheprovider -k published",
        "COLUMNS": "200",
    }


@pytest.mark.parametrize("page", [name for name in NAMES if session_of(name)])
def test_the_commands_of(page: str, folder: Path, repository: Path, certificates: Path, index: str) -> None:
    session = folder / re.sub(r"\W+", "-", page.removesuffix(".md")).strip("-")
    home = session / "home"
    (home / "work").mkdir(parents=True)
    inside = dict.fromkeys(IN_THE_REPOSITORY, repository)
    inside |= {name: (repository / name).parent for name in IN_THEIR_FOLDER}
    (session / "script").write_text(session_of(page))
    with (session / "output").open("w") as output:
        done = subprocess.run(
            ["bash", str(session / "script")], check=False, cwd=inside.get(page, home / "work"),
            env=environment(home, index, certificates, repository), stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT, timeout=4 * PATIENCE, start_new_session=True,
        )  # fmt: skip
    assert done.returncode == 0, (session / "output").read_text()[-6000:]


def test_every_row_of_the_tables_is_still_needed() -> None:
    every = {name: commands(REPO / name, name, with_python=name in WITH_PYTHON) for name in NAMES}
    for table in (NOT_RUN, TYPED):
        for page, begin, _ in table:
            assert [c for c in every[page] if c.text.startswith(begin)], f"{page} has no command {begin!r}"
    for page, old, _ in REPLACED:
        assert [c for c in every[page] if old in c.text], f"{page} has no {old!r}"
    for page, begin in ASSUMED:
        assert [c for c in every[page] if c.text.startswith(begin)], f"{page} has no command {begin!r}"
    for page in WITH_PYTHON:
        assert [c for c in every[page] if c.is_python], f"{page} has no Python"


def test_what_is_a_command_is_fenced_as_one() -> None:
    """Indented or fenced as text, a command would be run by nobody."""
    begins = r"(?:python -m |hla-compass \w|\./?scripts/|pip install|docker |npm )"
    looks_like = re.compile(rf"^\s*(?:\$ )?{begins}", re.MULTILINE)
    for name in NAMES:
        for block in blocks(REPO / name):
            if block.language not in {"sh", "bash", "python"}:
                assert not looks_like.search(block.code), f"{name}:{block.line}"
        outside = re.sub(r"^ *```.*?^ *```", "", (REPO / name).read_text(), flags=re.MULTILINE | re.DOTALL)
        assert not re.search(rf"^ {{4,}}{begins}", outside, re.MULTILINE), name
