"""What a page leaves to its reader: what is there before, what is replaced, and what cannot be done where tests run."""

from __future__ import annotations

import re

import attrs

from tests.support.documents import Command, Step, commands, module, script, served
from tests.support.process import REPO
from tests.support.waiting import free_port

PAGES = [*REPO.glob("*.md"), *REPO.glob("docs/**/*.md"), *REPO.glob("templates/**/README.md")]
NAMES = sorted(str(page.relative_to(REPO)) for page in PAGES if "node_modules" not in page.parts)

# What `scripts/test.sh` installs before the tests begin, where there is npm.
NODE_MODULES = REPO / "templates" / "ui-template" / "frontend" / "node_modules"
NO_PAGE = ("docs/first-module.md", "npm run dev", "npm ci was not run", "scripts/test.sh", "npm ci --no-audit")

# What cannot run where tests run: page, beginning, why; and the file that does it instead, with the words that do.
NOT_RUN = (
    ("README.md", "./scripts/test.sh", "runs this test", ".ci/run", "exec ./scripts/test.sh"),
    ("CONTRIBUTING.md", "./scripts/test.sh", "runs this test", ".ci/run", "exec ./scripts/test.sh"),
    ("docs/deployment.md", "docker build", "needs an engine", ".github/workflows/image.yml", "build-push-action"),
    ("docs/deployment.md", "docker run", "needs an engine", ".github/workflows/image.yml", "docker run --detach"),
    ("docs/deployment.md", "docker compose", "needs an engine", ".github/workflows/image.yml", "up --detach --wait"),
    ("docs/deployment.md", "backend devkit", "needs a HAProxy", "tests/state/test_devkits.py", '"standby"'),
    ("docs/deployment.md", "scrape_configs", "needs a Prometheus", "tests/test_metrics.py", "/metrics"),
    ("docs/errors.md", '{\n  "success": false', "is an answer", "tests/test_docs.py", "the_form_that_the_page_shows"),
    ("docs/first-module.md", "npm ci", "takes minutes", "scripts/test.sh", "npm ci --no-audit"),
    ("templates/ui-template/README.md", "cd frontend && npm ci", "takes minutes", "scripts/test.sh", "npm ci"),
    ("templates/ui-template/README.md", "npm run typecheck", "takes minutes", "scripts/test.sh", "npm run --silent"),
    ("templates/ui-template/README.md", "npm run test:e2e", "takes minutes", "tests/test_ui_template.py", "test:e2e"),
    ("docs/objects.md", "pip install 'hla", "asks a package index", "setup.cfg", "\ns3 ="),
    ("docs/scale-out.md", "pip install 'hla", "asks a package index", "setup.cfg", "\ndask ="),
    ("docs/testing.md", "pip install hla", "asks a package index", "tests/test_package.py", '"install"'),
    ("docs/objects.md", "hla-compass data uploads", "wants https", "tests/objects/test_uploads.py", '"uploads"'),
    ("docs/performance.md", "scripts/bench ", "takes minutes on an idle machine", "scripts/bench", "bench_lib"),
    *(() if NODE_MODULES.is_dir() else (NO_PAGE,)),
)  # fmt: skip
# What another page says too, and has executed: page, beginning, the other page.
REPEATED = (
    ("templates/README.md", "(cd my-module && hla-compass validate", "docs/first-module.md"),
    ("templates/README.md", 'eval "$(python -m devkit_api env)"; unset', "docs/publish.md"),
    ("templates/README.md", "export HLA_ACCESS_TOKEN", "docs/publish.md"),
    ("templates/README.md", "cd my-module", "docs/publish.md"),
    ("templates/README.md", "hla-compass publish", "docs/publish.md"),
    ("templates/README.md", "hla-compass run", "docs/publish.md"),
    ("templates/ui-template/README.md", "hla-compass validate", "docs/first-module.md"),
    ("templates/no-ui-template/README.md", "hla-compass validate", "docs/first-module.md"),
    ("templates/no-ui-template/README.md", "hla-compass check", "docs/first-module.md"),
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
    ("docs/catalogs.md", "[17, 23]", "ids"),
)
# What is typed at a prompt.
TYPED = (("docs/security.md", "python -m devkit_api users add", "a long phrase of mine\na long phrase of mine"),)
# Where a block is saved: a file, or the folder of the module whose `execute` it is.
SAVED = (
    ("docs/testing.md", "def test_it_runs", "tests/test_module.py"),
    ("docs/testing.md", "import pytest", "conftest.py"),
    ("docs/testing.md", "[pytest]", "pytest.ini"),
    ("docs/testing.md", "async def test_", "tests/test_client.py"),
    ("docs/objects.md", "from hla_compass.storage", "sender"),
    ("docs/objects.md", "selection =", "reader"),
    ("docs/objects.md", '{"sources"', "context.json"),
    ("docs/catalogs.md", '{"name": "nine"', "nine.json"),
    ("docs/catalogs.md", "selection =", "my-module"),
)
# What stands around a block of code: page, beginning, before, after.
AROUND = (
    (
        "docs/objects.md",
        "from hla_compass.storage",
        'data = b"a model"',
        'assert patient.get_object("model.bin") == data',
    ),
    ("docs/objects.md", "selection =", "", r'assert (data, len(manifest["sources"])) == (b"sequence\n", 1), manifest'),
    ("docs/catalogs.md", "selection =", "", 'assert b"SLLMWITQC" in rows, rows'),
    (
        "docs/catalogs.md",
        "plan =",
        "import os\n\nfrom hla_compass import APIClient\n\napi, view_id = APIClient(), os.environ['VIEW_ID']\n"
        "found = api.for_catalog('local', 'melanoma').data.sql.query('SELECT peptide_id FROM peptides')\n"
        "ids = [row['peptide_id'] for row in found['data']]",
        "run = api.start_prepared_module_run(plan)\n"
        "assert api.wait_for_module_run(run['runId'], poll_interval=0.3)['status'] == 'completed'",
    ),
)
# What a page tells first and is done later: page, beginning, the beginning of what it is done before.
EARLIER = (("docs/catalogs.md", "selection =", "plan ="),)

MODULE = "python -m devkit_api new my-module"
SERVE = served("python -m devkit_api serve")
ENVIRONMENT = 'eval "$(python -m devkit_api env)"'
COUNTER = {"inputs": {"type": "object", "properties": {"peptides": {"type": "array", "items": {"type": "string"}}}}}
# Pages that speak to the devkit that is running, whichever it is. They share one.
SHARING = ("docs/catalogs.md", "docs/how-to.md", "docs/objects.md", "docs/publish.md", "docs/security.md")
# Pages that speak of the repository's own folder, and of the one they lie in.
IN_THE_REPOSITORY = ("README.md", "CONTRIBUTING.md", "docs/deployment.md")
IN_THEIR_FOLDER = ("templates/ui-template/README.md", "templates/no-ui-template/README.md")
# What a page assumes before the command that begins so; "" is the page's first.
ASSUMED = (
    ("docs/first-module.md", "npm run dev", 'ln -s "$NODE_MODULES" node_modules'),
    ("docs/first-module.md", "DEVKIT_DATA_ROOTS=", "cd ~/modules && mkdir -p ~/study"),
    ("docs/how-to.md", "", f"{MODULE}\n{ENVIRONMENT}"),
    ("docs/how-to.md", "python -m devkit_api export before", f"mkdir stopped && cd stopped\n{SERVE}\nstop_server"),
    ("docs/objects.md", "", f"{MODULE} && python -m devkit_api register my-module && echo sequence >cohort.csv"),
    ("docs/objects.md", "python -m devkit_api tls init", 'unset "${!DEVKIT_S3_@}"'),
    ("docs/publish.md", "", MODULE),
    # The page leaves scheduler and worker running; a reader closes the terminal.
    (
        "docs/scale-out.md",
        "",
        f"""{MODULE}\ntrap 'code=$?; trap - EXIT; stop_server; kill $(jobs -p) 2>/dev/null; wait; exit "$code"' EXIT""",
    ),
    ("docs/export-import.md", "", f"{SERVE}\nstop_server"),
    ("docs/testing.md", "", module("counter", "", **COUNTER) + "\ncd counter"),
    ("docs/catalogs.md", "", ENVIRONMENT),
    (
        "docs/catalogs.md",
        "python -m devkit_api catalog import",
        "printf 'sample_name,sequence,LFQ,normalized_intensity\\nS1,SLLMWITQC,12,12\\n' >rows.csv",
    ),
    (
        "docs/catalogs.md",
        "hla-compass data catalog create",
        'unset HLA_API_KEY; export HLA_ACCESS_TOKEN="$(python -m devkit_api token | tail -n 1)"',
    ),
    ("docs/catalogs.md", "selection =", 'export VIEW_ID="$(last \'"id": "[0-9a-f-]{36}\' | cut -d\'"\' -f4)"'),
)
# What the reader sees, or does next: page, beginning, the command.
AFTERWARDS = (
    (
        "docs/scale-out.md",
        "python -m devkit_api doctor",  # a worker may take a moment to come
        "until python -m devkit_api doctor --json | grep -q ': 1 worker, 2 runs at a time'; do sleep 0.2; done",
    ),
    (
        "docs/first-module.md",
        "npm run dev",
        # the page asks the devkit for a second alone, which on a busy machine may not be enough
        'until curl -fs --max-time 60 "$(grep -oE \'http://localhost:[0-9]+\' "$SESSION/page.log" | head -n 1)/health"'
        ' | grep \'"devkit":"ready"\'; do kill -0 "$page" || exit 1; sleep 0.2; done',
    ),
    ("docs/testing.md", "pytest", "last '2 passed'"),
    ("docs/objects.md", "from hla", "python -m devkit_api register sender && python -m devkit_api run sender"),
    (
        "docs/objects.md",
        "selection =",
        "python -m devkit_api register reader && python -m devkit_api run reader --source cohort=cohort.csv",
    ),
    (
        "docs/objects.md",
        '{"sources"',
        'sed -i "s#s3://[^\\"]*#$(last "s3://[^ ]+/cohort.csv")#" context.json && '
        '(eval "$(python -m devkit_api env)" && hla-compass runs prepare my-module --data-context context.json'
        " --inputs my-module/examples/sample_input.json)",
    ),
    ("docs/catalogs.md", "selection =", "env -u HLA_API_ENDPOINT python -m devkit_api register my-module"),
)


def row(table: tuple[tuple[str, ...], ...], command: Command) -> tuple[str, ...]:
    """The row for this command, without page and beginning; nothing when there is none."""
    page = command.where.rpartition(":")[0]
    return next((rest for name, begin, *rest in table if name == page and begin and command.text.startswith(begin)), ())  # type: ignore[misc]


def every_command(page: str) -> list[Command]:
    return commands(REPO / page, page)


def can_be_done(command: Command) -> bool:
    """A block that is neither a command nor a program has to be saved somewhere."""
    return command.kind in {"shell", "program"} or bool(row(SAVED, command))


def steps_of(page: str) -> list[Step]:
    """What is executed of a page, in order."""
    steps: list[Step] = []
    for command in every_command(page):
        if row(NOT_RUN, command) or row(REPEATED, command) or not can_be_done(command):
            continue
        step = Step(
            _replaced(command),
            before=_first(ASSUMED, command),
            typed=_first(TYPED, command),
            around=row(AROUND, command) or ("", ""),  # type: ignore[arg-type]
            file=_first(SAVED, command),
            after=_first(AFTERWARDS, command),
        )
        steps.insert(_place(steps, _first(EARLIER, command)), step)
    return steps


def session_of(page: str) -> str:
    """The page as a script; nothing when none of its commands can run here."""
    steps = steps_of(page)
    first = next((text for name, begin, text in ASSUMED if name == page and not begin), "")
    return script([Step(before=first), *steps]) if steps else ""


def parts_of(text: str) -> set[str]:
    """A line's commands, as they are whatever the module's name and the comment behind them."""
    text = re.sub(r"\s#.*", "", text.strip("()"))
    text = re.sub(r"\bmy-\w+\b", "MODULE", re.sub(r"[\w-]+\.(?:devkit|tar\.gz)", "ARCHIVE", text))
    parts = {part.strip(" ()") for part in re.split(r"&&|;", text)}
    return {part for part in parts if not part.startswith("cd ")}


def _first(table: tuple[tuple[str, ...], ...], command: Command) -> str:
    return next(iter(row(table, command)), "")


def _place(steps: list[Step], begin: str) -> int:
    found = [number for number, step in enumerate(steps) if step.command and step.command.text.startswith(begin)]
    return found[0] if begin and found else len(steps)


def _replaced(command: Command) -> Command:
    page = command.where.rpartition(":")[0]
    for name, old, new in REPLACED:
        if name == page:
            command = attrs.evolve(command, text=command.text.replace(old, new))
    return command
