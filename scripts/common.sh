# Sourced by the other scripts: where things are, and how to say what is being done.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${PACKLIGHT_CACHE:-$root/.cache}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
export PACKLIGHT_CACHE=$cache

say() { printf '\n== %s\n' "$*"; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# as_root COMMAND...: directly as root, else through sudo.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "needs root for: $* (run as root, or install sudo)"
  fi
}

# A Python of our own in the cache; nothing is installed into the system's.
ensure_venv() {
  [ -x "$cache/venv/bin/pip" ] || python3 -m venv "$cache/venv"
}

has_sha256() { # FILE HEX
  [ -f "$1" ] && [ "$(sha256sum "$1" | cut -d' ' -f1)" = "$2" ]
}
