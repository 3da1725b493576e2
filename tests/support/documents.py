"""The fenced commands of a page, put together to one shell session that a reader would have."""

from __future__ import annotations

import re
from pathlib import Path

import attrs

FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<code>.*?)^ *```", re.MULTILINE | re.DOTALL)
SHELLS = frozenset({"sh", "bash", "shell", "console"})
# Does not return until it is stopped, and says when it serves.
SERVES = re.compile(r"python -m devkit_api serve\b|^\./scripts/run\.sh(?! --once)")

PROLOGUE = r"""
server=''
stop_server() {
  [[ -n $server ]] || return 0
  local pid=$server
  server=''
  kill -TERM -- "-$pid" && wait "$pid"
}
wait_until_it_serves() {
  until grep -qE 'ready at|keeps serving at' "$SESSION/server.log"; do
    kill -0 "$server" 2>/dev/null || { cat "$SESSION/server.log"; return 1; }
    sleep 0.1
  done
}
trap 'code=$?; trap - EXIT; stop_server || { cat "$SESSION/server.log"; exit 1; }; exit "$code"' EXIT
checked() {
  [[ $1 -eq 0 ]] && return
  printf '\n%s ended with %s\n' "$2" "$1"
  [[ -s $SESSION/server.log ]] && tail -n 40 "$SESSION/server.log"
  exit 1
}
last() {
  grep -oE "$1" "$SESSION/output" | tail -n 1
}
"""


@attrs.frozen
class Block:
    """A fenced block: its page's line, language and code without the indentation of a list."""

    line: int
    language: str
    code: str


@attrs.frozen
class Command:
    """One command, continued lines joined, or one program in Python."""

    where: str
    text: str
    is_python: bool = False


def blocks(page: Path) -> list[Block]:
    """Every fenced block of a page."""
    text = page.read_text()
    found = []
    for match in FENCE.finditer(text):
        indent = len(match["indent"])
        code = "".join(line[indent:] if line.strip() else line for line in match["code"].splitlines(keepends=True))
        found.append(Block(text[: match.start()].count("\n") + 2, match["language"], code))
    return found


def commands(page: Path, name: str, *, with_python: bool) -> list[Command]:
    """The commands of a page, in order. Blocks of Python that follow each other are one program."""
    found: list[Command] = []
    for block in blocks(page):
        if block.language in SHELLS:
            found += _split(block, name)
        elif block.language == "python" and with_python:
            if found and found[-1].is_python:
                found[-1] = attrs.evolve(found[-1], text=found[-1].text + block.code)
            else:
                found.append(Command(f"{name}:{block.line}", block.code, is_python=True))
    return found


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


def script(session: list[tuple[Command | None, str, str]]) -> str:
    """A bash script of (command, what the page assumes before it, what a person types)."""
    lines = [PROLOGUE]
    for command, before, typed in session:
        if before:
            lines += [before, "checked $? 'what the page assumes'"]
        if command is not None:
            lines += [f"printf '\\n+ %s\\n' {command.where}", _run(command, typed)]
            lines.append(f"checked $? {command.where}")
    return "\n".join([*lines, "stop_server", "checked $? 'the server'"])


def served(command: str) -> str:
    """In the background, in a process group of its own, until the next server or the end of the page."""
    return "\n".join(
        [
            "stop_server", "checked $? 'the server'", ': >"$SESSION/server.log"', "set -m",
            "{ trap : TERM", command, '} >>"$SESSION/server.log" 2>&1 &', "server=$!", "set +m", "wait_until_it_serves",
        ]
    )  # fmt: skip


def _run(command: Command, typed: str) -> str:
    if command.is_python:
        return f"python - <<'END_OF_PROGRAM'\n{command.text}\nEND_OF_PROGRAM"
    if SERVES.search(command.text):
        return served(command.text)
    return command.text if not typed else "{\n" + command.text + "\n} <<'TYPED'\n" + typed + "\nTYPED"
