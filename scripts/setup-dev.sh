#!/usr/bin/env bash
# Everything needed to work on the devkit: .venv with the tools of development, and the commit hooks.
# Call it as often as you like; what is there already is kept.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

ensure_venv dev
cd -- "$ROOT"
if git rev-parse --git-dir >/dev/null 2>&1; then
  say "Installing the commit hooks"
  if [[ -n $(git config --get core.hooksPath || true) ]]; then
    printf 'git uses core.hooksPath here, so none were installed; run them with: pre-commit run --all-files\n'
  else
    "$VENV/bin/python" -m pre_commit install
  fi
else
  say "This is not a git work tree, so there are no commit hooks to install"
fi
say "Ready. Next:"
printf '  source %s/bin/activate\n  ./scripts/run.sh     # the example, through the SDK\n  ./scripts/test.sh    # every check\n' "$VENV"
