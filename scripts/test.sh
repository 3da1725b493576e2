#!/usr/bin/env bash
# Every check: style, types, shell, generated docs, tests, templates. Stops at the first failure and says what to do.
# Arguments go to pytest: ./scripts/test.sh -k watcher
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

ensure_venv dev
cd -- "$ROOT"
PATH="$VENV/bin:$PATH"
scratch=$(mktemp -d)
trap 'rm -rf -- "$scratch"' EXIT

# Settings of a devkit in this shell are not settings of the tests.
for name in $(compgen -e); do
  case $name in
    DEVKIT_* | HLA_*) unset "$name" ;;
  esac
done
export HLA_COMPASS_CONFIG_DIR="$scratch/sdk" HLA_COMPASS_SKIP_VERSION_CHECK=1
export PYTHON_KEYRING_BACKEND=keyring.backends.null.Keyring

# step NAME ADVICE COMMAND...
step() {
  local name=$1 advice=$2 started=$SECONDS
  shift 2
  say "$name"
  if ! "$@"; then
    fail "$name failed after $((SECONDS - started)) s. $advice"
  fi
  printf -- '--- %s: ok, %d s\n' "$name" "$((SECONDS - started))"
}

in_folder() {
  (cd -- "$1" && shift && "$@")
}

shell_files=(.ci/run scripts/bench scripts/*.sh)

step 'ruff check' 'Many findings fix themselves: ruff check --fix' ruff check .
step 'ruff format' 'Run: ruff format' ruff format --check .
step 'mypy' 'The types say what the code means; correct whichever is wrong.' mypy
step 'shellcheck' 'Each finding has a page at its SC number in the shellcheck wiki.' \
  shellcheck --external-sources "${shell_files[@]}"
step 'generated docs' 'Run: python scripts/make_docs.py' python scripts/make_docs.py --check
step 'pytest' 'Run one test alone with: ./scripts/test.sh -k NAME' python -m pytest "$@"
for manifest in templates/*/manifest.json; do
  folder=$(dirname -- "$manifest")
  if [[ -f $folder/pytest.ini ]]; then
    step "pytest of $folder" "Run it alone: cd $folder && pytest" in_folder "$folder" python -m pytest -q -p no:aiohttp -p no:asyncio
  fi
  step "hla-compass validate --strict of $folder" "Run it alone: cd $folder && hla-compass validate --strict" \
    in_folder "$folder" hla-compass validate --strict
done
printf '\nAll checks passed in %d s.\n' "$SECONDS"
