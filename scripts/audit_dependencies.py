"""Known vulnerabilities of the installed packages, by pip-audit. Exit code 0: none; 1: some; 3: not known.

pip-audit calls packages it could not look up "skipped" and succeeds. Here that is no success.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

UNKNOWN = 3
SECONDS = 300


def audit() -> list[dict[str, Any]] | None:
    """What pip-audit says of each package, or None when it could not ask."""
    command = [sys.executable, "-m", "pip_audit", "--progress-spinner", "off", "--skip-editable", "--format", "json"]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        found: list[dict[str, Any]] = json.loads(ended.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        return None
    return found


def main() -> int:
    """Print the verdict."""
    found = audit()
    known = [package for package in found or [] if "vulns" in package]
    vulnerable = [package for package in known if package["vulns"]]
    for package in vulnerable:
        ids = ", ".join(entry["id"] for entry in package["vulns"])
        fixed = sorted({version for entry in package["vulns"] for version in entry["fix_versions"]})
        print(f"{package['name']} {package['version']}: {ids}; fixed in {', '.join(fixed) or 'no version yet'}")
    if vulnerable:
        return 1
    if not known:
        print("Nothing could be looked up: not checked.")
        return UNKNOWN
    missing = len(found or []) - len(known)
    print(f"{len(known)} packages have no known vulnerability; {missing} are not in the index.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
