"""Look for secrets in the work tree and in every line that was ever committed, with detect-secrets.

Keys of known form (cloud, forge, private keys, tokens) are looked for everywhere. Names such as `password = "…"` and
texts that look random are looked for outside tests, where made-up ones stand. A line with a made-up
value says so with `pragma: allowlist secret`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from detect_secrets.core.scan import scan_file, scan_line
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


def detectors(guesses: bool) -> dict[str, list[dict[str, str]]]:
    """Settings for detect-secrets."""
    with default_settings() as settings:
        names = [name for name in settings.plugins if guesses or name not in GUESSES]
    return {"plugins_used": [{"name": name} for name in names]}


def in_file(name: str) -> Iterator[str]:
    """Where a file holds something; the secret itself is not printed."""
    with transient_settings(detectors(guesses=not is_test(name))):
        for found in scan_file(str(ROOT / name)):
            if found.secret_value not in NAMES_ONLY and not is_allowed(name, found.line_number):
                yield f"{name}:{found.line_number}: {found.type}"


def is_test(name: str) -> bool:
    """Whether made-up secrets stand there."""
    return name.startswith(MADE_UP) or "/tests/" in name


def is_allowed(name: str, number: int) -> bool:
    """Whether the line says that it holds none."""
    return ALLOWED in (ROOT / name).read_text(encoding="utf-8", errors="replace").splitlines()[number - 1]


def in_history() -> Iterator[str]:
    """Where a line that was ever added holds a key of known form."""
    with transient_settings(detectors(guesses=False)):
        for line, commit in history().items():
            if ALLOWED not in line:
                yield from (f"commit {commit}: {found.type}" for found in scan_line(line))


def history() -> dict[str, str]:
    """Every line that was ever added, once."""
    lines: dict[str, str] = {}
    commit = ""
    for line in git("log", "--all", "--patch", "--unified=0", "--format=commit %h").splitlines():
        if line.startswith("commit "):
            commit = line[7:]
        elif line.startswith("+") and not line.startswith("+++"):
            lines.setdefault(line[1:], commit)
    return lines


def main() -> int:
    """Print what was found."""
    if not (ROOT / ".git").exists():
        print("This is no git work tree: nothing to look through.")
        return 0
    names = [name for name in git("ls-files").splitlines() if not name.endswith(DIGESTS) and (ROOT / name).is_file()]
    found = [place for name in names for place in in_file(name)]
    found += in_history()
    print("\n".join(found) if found else "No secret found.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
