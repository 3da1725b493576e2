# shellcheck shell=bash
# Shared by the scripts of this folder; sourced, not executed.
#
# PYTHON    the interpreter the environment is made with (default: python3; 3.11, 3.12 or 3.13)
# USE_VENV  an environment that has everything already: it is used as it is, and nothing is installed

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
VENV=${USE_VENV:-"$ROOT/.venv"}

say() {
  printf '\n==> %s\n' "$*"
}

fail() {
  printf '\nError: %s\n' "$*" >&2
  exit 1
}

# The interpreter must be one the devkit is made for; says which it is, or what to do.
check_python() {
  local python=${PYTHON:-python3} version
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) ||
    fail "'$python' does not start. Install Python 3.11, 3.12 or 3.13, or name one: PYTHON=python3.12 $0"
  case $version in
    3.11 | 3.12 | 3.13) ;;
    *) fail "'$python' is Python $version; the devkit needs 3.11, 3.12 or 3.13. Name one: PYTHON=python3.12 $0" ;;
  esac
}

# What an environment depends on: interpreter, place and declared requirements.
environment_key() {
  "${PYTHON:-python3}" - "$ROOT" <<'PYTHON_CODE'
import hashlib, pathlib, sys

root = pathlib.Path(sys.argv[1])
parts = [sys.version.encode(), str(root).encode()]
parts += [(root / name).read_bytes() for name in ("setup.cfg", "pyproject.toml")]
print(hashlib.sha256(b"\0".join(parts)).hexdigest())
PYTHON_CODE
}

# ensure_venv [dev]: an up-to-date environment in $VENV, with the tools of development when asked for.
ensure_venv() {
  local extra=${1:-} key stamp target="$ROOT"
  if [[ -n ${USE_VENV:-} ]]; then
    [[ -x $VENV/bin/python ]] || fail "USE_VENV=$VENV has no bin/python"
    return
  fi
  check_python
  key=$(environment_key)
  stamp="$VENV/.installed${extra:+-$extra}"
  if [[ -x $VENV/bin/python && -f $stamp && $(<"$stamp") == "$key" ]]; then
    return
  fi
  if ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
    say "Making a Python environment in .venv"
    "${PYTHON:-python3}" -m venv --clear "$VENV" ||
      fail "the environment could not be made. On Debian and Ubuntu: apt-get install python3-venv"
  fi
  if [[ -n $extra ]]; then
    target="${ROOT}[$extra]"
  fi
  say "Installing the devkit${extra:+ and the tools for development} into .venv (a minute or two the first time)"
  # Twice quiet: errors are shown, warnings about pip's own configuration are not.
  "$VENV/bin/python" -m pip install --quiet --quiet --disable-pip-version-check --editable "$target" ||
    fail "pip could not install the devkit; its own message is above"
  # A development environment holds everything the plain one does.
  printf '%s\n' "$key" >"$VENV/.installed"
  printf '%s\n' "$key" >"$stamp"
}
