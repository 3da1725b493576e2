"""The fenced blocks of a page, and the shell session in which a reader would use them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import attrs
import yaml

from tests.support.modules import manifest, module_source
from tests.support.waiting import PATIENCE

FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<code>.*?)^ *```", re.MULTILINE | re.DOTALL)
SHELLS = frozenset({"sh", "bash"})
# What is only looked at: output, and pictures.
SHOWN = frozenset({"text", "mermaid"})
# Does not return until it is stopped, and says when it serves.
SERVES = re.compile(r"python -m devkit_api serve\b|^\./scripts/run\.sh(?! --once)")

PROLOGUE = r"""
server='' page=''
stop_server() {
  [[ -n $server ]] || return 0
  local pid=$server
  server=''
  kill -TERM -- "-$pid" && wait "$pid"
}
stop_page() {
  [[ -n $page ]] || return 0
  kill -TERM -- "-$page" && wait "$page" || true
  page=''
}
wait_for() {
  local until=$((SECONDS + PATIENCE))
  until grep -qE "$2" "$3"; do
    kill -0 "$1" 2>/dev/null || { cat "$3"; return 1; }
    ((SECONDS < until)) || { echo "it does not say '$2', but"; cat "$3"; kill -ABRT -- "-$1"; return 1; }
    sleep 0.1
  done
}
trap 'code=$?; trap - EXIT; stop_page; stop_server || { cat "$SESSION/server.log"; exit 1; }; exit "$code"' EXIT
checked() {
  [[ $1 -eq 0 ]] && return
  printf '\n%s ended with %s\n' "$2" "$1"
  [[ -s $SESSION/server.log ]] && tail -n 40 "$SESSION/server.log"
  exit 1
}
last() {
  grep -oE "$1" "$SESSION/output" | tail -n 1
}
""".replace("PATIENCE", str(int(PATIENCE)))


@attrs.frozen
class Block:
    """A fenced block: its page's line, language and code without the indentation of a list."""

    line: int
    language: str
    code: str


@attrs.frozen
class Command:
    """One thing a reader does with a page: a command (continued lines joined), or a block of code or data.

    `kind` is `shell`, `program` (Python that talks to a devkit), `module` (what a module's `execute` does),
    `test` (a file of a module's tests) or `file` (what the reader saves).
    """

    where: str
    text: str
    kind: str = "shell"


@attrs.frozen
class Step:
    """A command, and what the tables of `tests/support/pages.py` say of it."""

    command: Command | None = None
    before: str = ""
    typed: str = ""
    around: tuple[str, str] = ("", "")
    file: str = ""
    after: str = ""


def blocks(page: Path) -> list[Block]:
    """Every fenced block of a page."""
    text = page.read_text()
    found = []
    for match in FENCE.finditer(text):
        indent = len(match["indent"])
        code = "".join(line[indent:] if line.strip() else line for line in match["code"].splitlines(keepends=True))
        found.append(Block(text[: match.start()].count("\n") + 2, match["language"], code))
    return found


def commands(page: Path, name: str) -> list[Command]:
    """What a reader does with a page, in order. Programs that follow each other are one."""
    found: list[Command] = []
    for block in blocks(page):
        where = f"{name}:{block.line}"
        if block.language in SHELLS:
            found += _split(block, name)
        elif block.language == "python":
            kind = _kind(block.code)
            if kind == "program" and found and found[-1].kind == "program":
                found[-1] = attrs.evolve(found[-1], text=found[-1].text + block.code)
            else:
                found.append(Command(where, block.code, kind))
        elif block.language == "yaml" and (steps := _steps(block.code)):
            found += [Command(where, step) for step in steps]
        elif block.language not in SHOWN:
            found.append(Command(where, block.code, "file"))
    return found


def _kind(code: str) -> str:
    if re.search(r"^(?:async )?def test_|^@pytest\.fixture", code, re.MULTILINE):
        return "test"
    return "module" if re.search(r"\bself\.", code) else "program"


def _steps(code: str) -> list[str]:
    """The commands of a workflow's steps."""
    read = yaml.safe_load(code)
    return [step["run"] for step in read if "run" in step] if isinstance(read, list) else []


def _split(block: Block, name: str) -> list[Command]:
    found, begun = [], ""
    for number, line in enumerate(block.code.splitlines(), block.line):
        begun += line
        if line.endswith("\\"):
            begun += "\n"
        elif not begun.strip() or begun.lstrip().startswith("#"):
            begun = ""
        else:
            found.append(Command(f"{name}:{number}", begun))
            begun = ""
    return found


def script(steps: list[Step]) -> str:
    """A bash script that takes these steps, and stops at the first that fails."""
    lines = [PROLOGUE]
    for step in steps:
        if step.before:
            lines += [step.before, "checked $? 'what the page assumes'"]
        if step.command is not None:
            lines += [f"printf '\\n+ %s\\n' {step.command.where}", _run(step, step.command)]
            lines.append(f"checked $? {step.command.where}")
        if step.after:
            lines += [step.after, "checked $? 'what should have come of it'"]
    return "\n".join([*lines, "stop_page", "stop_server", "checked $? 'the server'"])


def served(command: str) -> str:
    """In the background, in a process group of its own, until the next server or the end of the page."""
    background = _background("server", command, "ready at|keeps serving at")
    return f"stop_server\nchecked $? 'the server'\n{background}"


def page_served(command: str) -> str:
    """The same for the server of a module's page, beside the devkit."""
    return _background("page", command, "Local:")


def _background(name: str, command: str, says: str) -> str:
    log = f'"$SESSION/{name}.log"'
    return "\n".join(
        [f": >{log}", "set -m", "{ trap : TERM", command, f"}} >>{log} 2>&1 &", f"{name}=$!", "set +m",
         f"wait_for ${name} '{says}' {log}"]
    )  # fmt: skip


def _run(step: Step, command: Command) -> str:
    if command.kind == "program":
        return _here("python -", "\n".join([step.around[0], command.text, step.around[1]]))
    if command.kind == "module":
        return module(step.file, "\n".join([step.around[0], command.text, step.around[1]]))
    if command.kind in {"test", "file"}:
        return _here(f"mkdir -p '{Path(step.file).parent}' && cat >'{step.file}'", command.text)
    if SERVES.search(command.text):
        return served(command.text)
    if command.text.startswith("npm run dev"):
        return page_served(command.text)
    return command.text if not step.typed else "{\n" + command.text + "\n} <<'TYPED'\n" + step.typed + "\nTYPED"


def module(name: str, execute: str, **changes: object) -> str:
    """Write a module whose `execute` does this."""
    execute += "\nreturn self.success(results={})"
    return "\n".join(
        [
            f"mkdir -p {name}/backend",
            _here(f"cat >{name}/manifest.json", json.dumps(manifest(name, **changes))),
            _here(f"cat >{name}/backend/main.py", module_source(execute)),
            f"echo hla-compass==6.0.2 >{name}/backend/requirements.txt",
        ]
    )


def _here(command: str, text: str) -> str:
    return f"{command} <<'END_OF_TEXT'\n{text}\nEND_OF_TEXT"
