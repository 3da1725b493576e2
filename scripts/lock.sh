#!/usr/bin/env bash
# conf/requirements.lock: what the container image installs, every file with its hash. Run it after a change of setup.cfg.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

ensure_venv dev
cd -- "$ROOT"
PATH="$VENV/bin:$PATH" uv pip compile setup.py --extra s3 --extra otel --extra dask --generate-hashes --no-header --no-emit-index-url --no-annotate \
  --python-version 3.12 --python-platform x86_64-unknown-linux-gnu --quiet --output-file conf/requirements.lock "$@"
