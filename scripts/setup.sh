# shellcheck shell=bash
# Sourced by the other scripts. Finds the root of the repository (ROOT), installs the npm dependencies if they are
# missing or older than the lock file, and exports BUN and DENO: the real binaries, since the launchers in
# node_modules/.bin may distort start-up times and traces of system calls.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
export ROOT
# No runtime looks for newer versions of itself, and nothing is coloured.
export DENO_NO_UPDATE_CHECK=1 NO_COLOR=1 CI="${CI:-true}"

# Whether node_modules is what the lock file asks for. A link to another checkout's is never touched.
dependencies_fresh() {
  local lock="$ROOT/package-lock.json" modules="$ROOT/node_modules"
  [ -L "$modules" ] && return 0
  [ -e "$modules/.package-lock.json" ] || return 1
  # By content where we installed, since a checkout makes the lock file look new.
  if [ -e "$modules/.installed-lock" ]; then cmp -s "$lock" "$modules/.installed-lock"; return; fi
  [ ! "$lock" -nt "$modules/.package-lock.json" ]
}

install_dependencies() {
  dependencies_fresh && return 0
  command -v npm >/dev/null || { echo "npm is needed to install Bun, Deno and TypeScript" >&2; return 1; }
  mkdir -p "$ROOT/.cache"
  (
    # Two scripts that start together must not both install.
    flock 9
    dependencies_fresh && exit 0
    cd "$ROOT" && npm ci --no-audit --no-fund --loglevel=error >&2 &&
      cp package-lock.json node_modules/.installed-lock
  ) 9>"$ROOT/.cache/install.lock"
}

# Prints the first argument that is an executable for Linux and not a launcher in some scripting language.
first_elf() {
  local file
  for file in "$@"; do
    [ -x "$file" ] && [ "$(head -c 4 "$file" | tr -d '\0')" = $'\x7fELF' ] && { echo "$file"; return 0; }
  done
  echo "none of these is there: $*" >&2
  return 1
}

find_runtimes() {
  local modules="$ROOT/node_modules" bun deno
  case "$(uname -m)" in
    x86_64) bun=linux-x64 deno=linux-x64-glibc ;;
    aarch64) bun=linux-aarch64 deno=linux-arm64-glibc ;;
    *) echo "uring knows x86_64 and aarch64, not $(uname -m)" >&2; return 1 ;;
  esac
  # Bun's install script moves the binary out of its package into the place of the launcher.
  BUN="$(first_elf "$modules/@oven/bun-$bun/bin/bun" "$modules/bun/bin/bun.exe")" || return 1
  DENO="$(first_elf "$modules/@deno/$deno/deno" "$modules/deno/deno")" || return 1
  export BUN DENO
}

# Installs Debian packages that are missing, when root; otherwise says what is missing and fails.
ensure_deb() {
  local package missing=()
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing+=("$package")
  done
  [ "${#missing[@]}" -eq 0 ] && return 0
  if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "missing Debian packages: ${missing[*]}" >&2
    return 1
  fi
  # One at a time, since apt-get does not wait for others.
  mkdir -p "$ROOT/.cache"
  local alone=(flock "$ROOT/.cache/deb.lock")
  local install=("${alone[@]}" apt-get install -y -q --no-install-recommends "${missing[@]}")
  DEBIAN_FRONTEND=noninteractive "${install[@]}" >/dev/null 2>&1 && return 0
  "${alone[@]}" apt-get update -q >/dev/null 2>&1
  DEBIAN_FRONTEND=noninteractive "${install[@]}" >/dev/null 2>&1 && return 0
  echo "cannot install Debian packages: ${missing[*]}" >&2
  return 1
}

# Where nginx is, or will be: never installed, since that would start a server now and with every boot.
NGINX="$ROOT/.cache/nginx/usr/sbin/nginx"
export NGINX

# Unpacks nginx and its module for TCP, when there is apt; otherwise fails.
ensure_nginx() {
  "$NGINX" -v 2>/dev/null && return 0
  local unpacked="$ROOT/.cache/nginx" scratch package
  command -v apt-get >/dev/null || { echo "no apt-get to unpack nginx with" >&2; return 1; }
  ensure_deb libpcre2-8-0 || return 1
  mkdir -p "$unpacked"
  scratch="$(mktemp -d "$ROOT/.cache/download.XXXXXX")"
  (
    cd "$scratch" || exit 1
    apt-get download -q nginx libnginx-mod-stream >/dev/null 2>&1 || {
      [ "$(id -u)" -eq 0 ] && apt-get update -q >/dev/null 2>&1
      apt-get download -q nginx libnginx-mod-stream >/dev/null 2>&1
    } || exit 1
    for package in *.deb; do dpkg-deb --extract "$package" "$unpacked" || exit 1; done
  )
  rm -rf "$scratch"
  "$NGINX" -v 2>/dev/null && return 0
  echo "cannot unpack nginx" >&2
  return 1
}

# Whoever has both already, such as the virtual machine of scripts/lab, needs nothing installed.
if [ ! -x "${BUN:-}" ] || [ ! -x "${DENO:-}" ]; then install_dependencies && find_runtimes; fi
