#!/usr/bin/env bash
# Start the devkit with the bundled example module, run the example through the official SDK, show its result,
# and keep serving until Ctrl-C. The first call makes .venv; later calls reuse it.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

usage() {
  cat <<'TEXT'
Usage: scripts/run.sh [--once]

  --once   stop after the result; the exit code says whether the run completed
  --help   show this text

PYTHON names the interpreter to use (3.11 to 3.13); DEVKIT_* variables configure the devkit (docs/configuration.md).
TEXT
}

once=false
for argument in "$@"; do
  case $argument in
    --once) once=true ;;
    -h | --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
  esac
done

server=''
scratch=$(mktemp -d)

stop_server() {
  if [[ -n $server ]] && kill -0 "$server" 2>/dev/null; then
    kill -TERM "$server" 2>/dev/null || true # it may have ended since
    wait "$server" || true
  fi
  server=''
}

# shellcheck disable=SC2329  # called by the trap
clean_up() {
  local code=$?
  trap - EXIT INT TERM
  stop_server
  rm -rf -- "$scratch"
  exit "$code"
}

trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

ensure_venv
cd -- "$ROOT"
python="$VENV/bin/python"
state=${DEVKIT_STATE_DIR:-.devkit}
mkdir -p -- "$state"
log="$state/server.log"

say "Starting the devkit (its log: $log)"
mkfifo "$scratch/ready"
DEVKIT_STATE_DIR="$state" "$python" -m devkit_api serve --port 0 --modules templates >"$scratch/ready" 2>>"$log" &
server=$!
exec 3<"$scratch/ready"
endpoint='' key=''
while IFS= read -r -u 3 line; do
  case $line in
    *'ready at '*) endpoint=${line##*ready at } ;;
    *'export HLA_API_KEY='*) key=${line##*export HLA_API_KEY=} && break ;;
  esac
done
if [[ -z $endpoint || -z $key ]]; then
  wait "$server" || true
  server=''
  cat -- "$log" >&2
  fail "the devkit did not start; its own words are above"
fi
printf 'Ready at %s\n' "$endpoint"

say "Running the example through the hla-compass SDK"
outcome=0
# Variables of another devkit or of the real platform in this shell must not send the example elsewhere. Without a key
# ring (a server, a container) the SDK would warn about it at every call.
env -u HLA_ACCESS_TOKEN -u HLA_COMPASS_API_KEY HLA_API_ENDPOINT="$endpoint" HLA_API_KEY="$key" \
  PYTHON_KEYRING_BACKEND=keyring.backends.null.Keyring \
  "$python" scripts/run_example.py 3<&- || outcome=$?

if [[ $once == true || $outcome -ne 0 ]]; then
  say "Stopping the devkit"
  stop_server
  [[ $outcome -eq 0 ]] || fail "the example run did not complete; see above, and $log"
  printf 'Done.\n'
  exit 0
fi

trap 'printf "\nStopping the devkit\n"; exit 0' INT TERM
say "The devkit keeps serving at $endpoint until Ctrl-C. In another terminal:"
printf '\n  export HLA_API_ENDPOINT=%s\n  export HLA_API_KEY=%s\n\n' "$endpoint" "$key"
code=0
wait "$server" || code=$?
server=''
fail "the devkit stopped by itself (exit code $code); its log: $log"
