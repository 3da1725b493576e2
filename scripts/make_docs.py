"""Write what the reference pages take from the code: settings, errors, commands and the OpenAPI document.

    python scripts/make_docs.py           write
    python scripts/make_docs.py --check   fail when something on disk is not what would be written

A page holds its own prose; what lies between `<!-- made: NAME -->` and `<!-- end -->` is made here.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import click

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))

from devkit_api.apidocs.document import build  # noqa: E402
from devkit_api.cli import cli  # noqa: E402
from devkit_api.errors import CATALOGUE  # noqa: E402
from devkit_api.route_table import all_routes  # noqa: E402
from devkit_api.runs.failures import FAILURES  # noqa: E402
from devkit_api.settings import Settings, setting_infos  # noqa: E402

PAGES = ("docs/cli.md", "docs/configuration.md", "docs/errors.md")
ENVIRONMENT = ".env.example"
OPENAPI = "docs/openapi.json"
_SECTION = re.compile(r"(<!-- made: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def settings_table() -> str:
    """Every variable, from `devkit_api/settings/`."""
    defaults = {field.name: _default(field.default) for field in attrs.fields(Settings)}
    rows = ["| Variable | Default | Takes | What it is |", "|---|---|---|---|"]
    for name, info in setting_infos().items():
        rows.append(f"| `{info.env}` | {defaults[name]} | {_cell(info.expected)} | {_cell(info.help)} |")
    return "\n".join(rows)


def error_catalogue() -> str:
    """Every code of a refused request, from `devkit_api/errors/`, by status."""
    lines = []
    for code, error in sorted(CATALOGUE.items(), key=lambda item: (item[1].status, item[0])):
        lines += [f"### {code}", "", f"HTTP {error.status}. {(error.__doc__ or '').splitlines()[0]}", ""]
        lines += [f"- Message: {_template(error.template)}", f"- What to do: {_template(error.hint)}"]
        if error.example:
            lines.append(f"- A good request: `{error.example}`")
        lines.append("")
    return "\n".join(lines).rstrip()


def run_failures() -> str:
    """Every reason a run can fail, from `devkit_api/runs/failures.py`."""
    rows = [f"| `{code}` | {_cell(about)} |" for code, about in FAILURES.items()]
    return "\n".join(["| Code | What happened |", "|---|---|", *rows])


def commands() -> str:
    """Every command with its options, from the help of the command line itself."""
    lines: list[str] = []
    for path, command in _walk(cli, ()):
        usage = " ".join(command.collect_usage_pieces(click.Context(command, info_name=path[-1])))
        about = inspect.cleandoc(command.help or "")
        lines += [f"### {' '.join(path)}", "", f"`python -m devkit_api {' '.join(path)} {usage}`", "", about, ""]
        options = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
        if options:
            lines += ["| Option | What it is |", "|---|---|"]
            lines += [f"| {_names(option)} | {_cell(option.help or '')} |" for option in options]
            lines.append("")
    return "\n".join(lines).rstrip()


def _walk(group: click.Group, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in sorted(group.list_commands(context)):
        command = group.get_command(context, name)
        assert command is not None, name
        if isinstance(command, click.Group):
            yield from _walk(command, (*path, name))
        else:
            yield (*path, name), command


def _names(option: click.Option) -> str:
    taken = "" if option.is_flag else " " + (option.metavar or option.name or "").upper().replace("_", "-")
    return ", ".join(f"`{name}{taken}`" for name in (*option.opts, *option.secondary_opts))


SECTIONS: dict[str, Callable[[], str]] = {
    "commands": commands,
    "settings": settings_table,
    "catalogue": error_catalogue,
    "failures": run_failures,
}


def environment_example() -> str:
    """.env.example, from `devkit_api/settings/`."""
    lines = [
        "# Every setting of the devkit, with an example value. Nothing needs to be set.",
        "# Copy to .env, uncomment what you change, and load it into the shell that starts the devkit:",
        "#   set -a; . ./.env; set +a",
        "# .env stays out of git. Defaults and details: docs/configuration.md",
        "",
    ]
    for info in setting_infos().values():
        value = f"'{info.example}'" if re.search(r"[<>|;&]", info.example) else info.example
        lines += [f"# {info.help}", f"# Takes: {info.expected}.", f"#{info.env}={value}", ""]
    return "\n".join(lines)


def openapi_snapshot() -> str:
    """The document that `GET /docs/openapi.json` serves: a change of the contract shows in review."""
    return json.dumps(build(all_routes()), indent=1, ensure_ascii=False) + "\n"


def fresh(root: Path = REPO) -> dict[str, str]:
    """What each file should hold."""
    pages = {}
    for name in PAGES:
        text = (root / name).read_text(encoding="utf-8")
        pages[name] = _SECTION.sub(lambda m: f"{m[1]}\n{SECTIONS[m[2]]()}\n\n{m[3]}", text)
    return {**pages, ENVIRONMENT: environment_example(), OPENAPI: openapi_snapshot()}


def stale(root: Path = REPO) -> dict[str, str]:
    """The files that do not hold it."""
    return {
        name: text
        for name, text in fresh(root).items()
        if not (root / name).is_file() or (root / name).read_text(encoding="utf-8") != text
    }


def main(arguments: list[str]) -> int:
    """Write, or check."""
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    outdated = stale()
    for name, text in outdated.items():
        if arguments:
            print(f"{name} is stale; run: python scripts/make_docs.py", file=sys.stderr)
        else:
            (REPO / name).write_text(text, encoding="utf-8")
            print(f"wrote {name}")
    return 1 if arguments and outdated else 0


def _default(value: Any) -> str:
    if value is None:
        return "unset"
    if value == ():
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, float):
        return f"`{value:g}`"
    return "the number of cores" if hasattr(value, "factory") else f"`{value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _template(text: str) -> str:
    """A message template with its fields as placeholders that Markdown shows."""
    return re.sub(r"\{(\w+)(?:!r)?\}", r"*\1*", text.replace("<", "&lt;"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
