#!/usr/bin/env bash
# A certificate for this machine's own proxy: conf/tls/devkit.crt and devkit.key, good for a year, never overwritten.
# Use: ./scripts/make-cert.sh [FOLDER]
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

folder=${1:-"$ROOT/conf/tls"}
command -v openssl >/dev/null || fail 'openssl is missing. On Debian and Ubuntu: apt-get install openssl'
if [[ -e $folder/devkit.key || -e $folder/devkit.crt ]]; then
  say "$folder has a certificate already; nothing was changed. Remove both files to make another."
  exit 0
fi
mkdir -p -- "$folder"
umask 077
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 -subj '/CN=localhost' \
  -addext 'subjectAltName=DNS:localhost,IP:127.0.0.1' -keyout "$folder/devkit.key" -out "$folder/devkit.crt" 2>/dev/null ||
  fail 'openssl could not make a certificate'
# The proxy is another user (uid 101) and must read the key, which is good for this machine's own name alone.
chmod 644 -- "$folder/devkit.crt" "$folder/devkit.key"
say "Made $folder/devkit.crt"
printf 'Clients trust it with: export REQUESTS_CA_BUNDLE=%q\n' "$folder/devkit.crt"
