"""The docs say what is: generated parts are fresh, links resolve, commands exist."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

from devkit_api.cli import cli
from devkit_api.errors import CATALOGUE
from devkit_api.settings import setting_infos
from tests.support.waiting import PATIENCE

REPO = Path(__file__).resolve().parents[1]
PAGES = sorted([*REPO.glob("*.md"), *(REPO / "docs").glob("**/*.md"), *REPO.glob("templates/*/README.md")])
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"python -m devkit_api\b[^`\n)#\"]*")


def names(pages: list[Path]) -> list[str]:
    return [str(page.relative_to(REPO)) for page in pages]


@pytest.fixture(scope="module")
def make_docs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_docs", REPO / "scripts" / "make_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def anchors(page: Path) -> set[str]:
    """Anchors as GitHub makes them from headings."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(page: Path) -> list[str]:
    return [match.strip() for match in COMMAND.findall(page.read_text())]


def test_generated_parts_are_fresh(make_docs: ModuleType) -> None:
    assert not make_docs.stale(), "run: python scripts/make_docs.py"


def test_a_stale_page_is_found(make_docs: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    for name, page in make_docs.fresh().items():
        changed = page.replace("DEVKIT_PORT", "DEVKIT_PROT").replace("RUN_KILLED", "RUN_ENDED")
        changed = changed.replace("Show every setting", "Show nothing").replace('"3.1.0"', '"3.0.0"')
        (tmp_path / name).write_text(changed)
    stale = {"docs/cli.md", "docs/configuration.md", "docs/errors.md", "docs/openapi.json", ".env.example"}
    assert set(make_docs.stale(tmp_path)) == stale


def test_every_setting_and_error_is_documented() -> None:
    configuration, example = ((REPO / name).read_text() for name in ("docs/configuration.md", ".env.example"))
    for info in setting_infos().values():
        assert f"`{info.env}`" in configuration
        assert f"\n#{info.env}=" in example
    assert {code.lower() for code in CATALOGUE} <= anchors(REPO / "docs" / "errors.md")


def test_the_example_environment_is_valid_shell_and_valid_settings() -> None:
    lines = (REPO / ".env.example").read_text().splitlines()
    assert all(line == "" or line.startswith("#") for line in lines), "every variable is commented out"
    shell = "\n".join(line[1:] if line.startswith("#DEVKIT_") else line for line in lines)
    subprocess.run(["bash", "-euc", shell], check=True, timeout=PATIENCE)
    for info in setting_infos().values():
        if "$(" not in info.example:
            info.parse(info.example)


@pytest.mark.parametrize("name", names(PAGES))
def test_relative_links_resolve(name: str) -> None:
    page = REPO / name
    for link in LINK.findall(FENCE.sub("", page.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name} links to {link}"
        if anchor:
            assert anchor in anchors(target), f"{name} links to {link}"


@pytest.mark.parametrize("name", names(PAGES))
def test_commands_exist(name: str) -> None:
    for command in commands(REPO / name):
        words = shlex.split(command.replace("…", ""))[3:]
        words = [word.rstrip(".,;:") for word in words if word not in {"and"}]
        known = {option for parameter in cli.params for option in parameter.opts} | {"--help"}
        if words and not words[0].startswith("-"):
            subcommand = cli.get_command(click.Context(cli), words[0])
            assert subcommand is not None, f"{name}: {command}"
            if isinstance(subcommand, click.Group):
                subcommand = subcommand.commands[words[1]]
            known = {
                option for parameter in subcommand.params for option in (*parameter.opts, *parameter.secondary_opts)
            }
            known |= {"--help"}
        for word in words:
            if word.startswith("-"):
                assert word.split("=")[0] in known, f"{name}: {command}"


def test_every_requirement_names_code_test_and_page_that_exist() -> None:
    text = (REPO / "docs" / "requirements.md").read_text()
    rows = [
        line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ") and "| Code |" not in line
    ]
    assert len(rows) >= 60
    template = REPO / "templates" / "ui-template"
    for row in rows:
        assert len(row) == 4, row
        assert all(cell.strip() for cell in row), row
        assert LINK.search(row[3]), row
        for path in re.findall(r"`([\w./*-]*[/.][\w./*-]+)`", row[1] + row[2]):
            assert any(any(folder.glob(path)) for folder in (REPO, REPO / "devkit_api", template)), path


def test_the_readme_names_both_commands() -> None:
    text = (REPO / "README.md").read_text()
    assert "./scripts/run.sh" in text
    assert "./scripts/test.sh" in text
    assert commands(REPO / "README.md")


async def test_an_error_has_the_form_that_the_page_shows(make_client: Any) -> None:
    [shown] = [json.loads(code) for language, code in FENCE.findall((REPO / "docs" / "errors.md").read_text())]
    client = await make_client()
    answer = await client.post("/v1/devkit/modules", json={"manifest": {}})
    body = await answer.json()
    assert answer.status == 422
    assert (body.keys(), body["error"].keys()) == (shown.keys(), shown["error"].keys())
    assert (body["success"], body["type"]) == (shown["success"], shown["type"])


def test_every_command_has_help() -> None:
    context = click.Context(cli)
    names = cli.list_commands(context)
    assert {"serve", "run", "health"} <= set(names)
    for name in names:
        command = cli.get_command(context, name)
        assert isinstance(command, click.Command), name
        assert (command.name, bool(command.help)) == (name, True)


def test_make_docs_refuses_unknown_arguments() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/make_docs.py", "--chekc"],
        check=False,
        cwd=REPO,
        capture_output=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 2
