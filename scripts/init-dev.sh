#!/usr/bin/env bash
# Secrets of your own for the devkit and the services beside it, in .env.devkit: made once, mode 600, never overwritten.
# Call it as often as you like; only what is missing is added. Use: ./scripts/init-dev.sh [FILE]
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

file=${1:-"$ROOT/.env.devkit"}
names=(DEVKIT_API_KEY DEVKIT_JWT_SECRET DEVKIT_DB_PASSWORD DEVKIT_S3_ACCESS_KEY DEVKIT_S3_SECRET_KEY)
umask 077

# 64 hexadecimal digits, 256 random bits.
random_secret() {
  od -An -v -N32 -tx1 /dev/urandom | tr -d ' \n'
}

[[ ! -L $file && (! -e $file || -f $file) ]] || fail "$file is not a plain file. Move it away, then run this again."
if [[ ! -e $file ]]; then
  # noclobber: two that start at once do not overwrite each other.
  (set -o noclobber && printf '# Made by scripts/init-dev.sh. Keep it private: it is in .gitignore.\n' >"$file") 2>/dev/null ||
    fail "$file cannot be written."
fi
chmod 600 -- "$file"

# A last line without an end would swallow the next name.
if [[ -s $file && -n $(tail -c 1 -- "$file") ]]; then
  printf '\n' >>"$file"
fi
added=()
for name in "${names[@]}"; do
  if ! grep -q "^\(export \)\?$name=" -- "$file"; then
    secret=$(random_secret)
    [[ ${#secret} -eq 64 ]] || fail 'the system gave no random bytes'
    printf '%s=%s\n' "$name" "$secret" >>"$file"
    added+=("$name")
  fi
done

if ((${#added[@]})); then
  say "Added to $file: ${added[*]}"
else
  say "$file has everything already; nothing was changed"
fi
printf 'Use it in a shell:\n  set -a; source %q; set +a\n' "$file"
printf 'Rotate one: delete its line, run this again, and restart what uses it.\n'
