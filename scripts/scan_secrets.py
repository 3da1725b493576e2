"""Look for secrets in the work tree and in every line that was ever committed, with detect-secrets.

Keys of known form (cloud, forge, private keys, tokens) are looked for everywhere. Names such as `password = "…"` and
texts that look random are looked for outside tests, where made-up ones stand. A line with a made-up
value says so with `pragma: allowlist secret`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from detect_secrets.core.scan import get_plugins, scan_file, scan_line
from detect_secrets.plugins.base import RegexBasedDetector
from detect_secrets.settings import default_settings, transient_settings

ROOT = Path(__file__).resolve().parents[1]
GUESSES = {"Base64HighEntropyString", "HexHighEntropyString", "KeywordDetector", "IPPublicDetector"}
# Digests of packages look random, and are meant to be public.
DIGESTS = ("package-lock.json", "requirements.lock.txt", "uv.lock")
MADE_UP = (
    "tests/",
    "docs/openapi.json",
    "templates/ui-template/frontend/e2e/",
    "templates/ui-template/frontend/tests/",
)
ALLOWED = "pragma: allowlist secret"
# Words that stand where a secret would: names, and the token of the rehearsal, which no run ever has.
NAMES_ONLY = {"api_key", "run_token", "developer_api_key", "hla_runtoken_rehearsal"}


def git(*arguments: str) -> str:
    """What git prints."""
    ended = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=True)
    return ended.stdout.decode("utf-8", "replace")


def detectors(*, guesses: bool) -> dict[str, list[dict[str, str]]]:
    """Settings for detect-secrets: those that guess, or those that know a form."""
    with default_settings() as settings:
        names = [name for name in settings.plugins if (name in GUESSES) is guesses]
    return {"plugins_used": [{"name": name} for name in names]}


def guessed(names: list[str]) -> Iterator[str]:
    """Where a file may hold something; the secret itself is not printed."""
    with transient_settings(detectors(guesses=True)):
        for name in names:
            for found in scan_file(str(ROOT / name)):
                if found.secret_value not in NAMES_ONLY and not is_allowed(name, found.line_number):
                    yield f"{name}:{found.line_number}: {found.type}"


def known(lines: Mapping[str, str]) -> Iterator[str]:
    """Where a line, given with its place, holds a key of known form."""
    with transient_settings(detectors(guesses=False)):
        for line in suspects(list(lines)):
            if ALLOWED not in line:
                yield from (
                    f"{lines[line]}: {found.type}" for found in scan_line(line) if found.secret_value not in NAMES_ONLY
                )


def suspects(lines: list[str]) -> set[str]:
    """Lines in which a form may be. All are searched at once: one by one takes detect-secrets many times as long."""
    text, found = "\n".join(lines), set()
    for plugin in get_plugins():
        assert isinstance(plugin, RegexBasedDetector), "another kind must see each line"
        for form in plugin.denylist:
            for match in form.finditer(text):
                begin = text.rfind("\n", 0, match.start()) + 1
                end = text.find("\n", match.end())
                found.update(text[begin : end if end >= 0 else None].split("\n"))
    return found


def is_test(name: str) -> bool:
    """Whether made-up secrets stand there."""
    return name.startswith(MADE_UP) or "/tests/" in name


def is_allowed(name: str, number: int) -> bool:
    """Whether the line says that it holds none."""
    return ALLOWED in (ROOT / name).read_text(encoding="utf-8", errors="replace").splitlines()[number - 1]


def in_tree(names: list[str]) -> dict[str, str]:
    """Every line of these files, once, with its place."""
    lines: dict[str, str] = {}
    for name in names:
        for number, line in enumerate((ROOT / name).read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            lines.setdefault(line, f"{name}:{number}")
    return lines


def history() -> dict[str, str]:
    """Every line that was ever added, once, with its commit."""
    lines: dict[str, str] = {}
    commit = ""
    for line in git("log", "--all", "--patch", "--unified=0", "--format=commit %h").splitlines():
        if line.startswith("commit "):
            commit = line
        elif line.startswith("+") and not line.startswith("+++"):
            lines.setdefault(line[1:], commit)
    return lines


def main() -> int:
    """Print what was found."""
    if not (ROOT / ".git").exists():
        print("This is no git work tree: nothing to look through.")
        return 0
    names = [name for name in git("ls-files").splitlines() if not name.endswith(DIGESTS) and (ROOT / name).is_file()]
    found = list(guessed([name for name in names if not is_test(name)]))
    found += known(history() | in_tree(names))
    print("\n".join(found) if found else "No secret found.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
