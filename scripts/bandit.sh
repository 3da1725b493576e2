#!/usr/bin/env bash
# What bandit is asked, here and in .github/workflows/security.yml: findings of medium weight and more, in the code that ships and its scripts.
# Arguments are what to look at instead: ./scripts/bandit.sh FOLDER
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
(($#)) || set -- devkit_api scripts templates
exec bandit --quiet --configfile pyproject.toml --severity-level medium --confidence-level medium --recursive "$@"
