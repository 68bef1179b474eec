#!/bin/sh
# Create .venv: `deploy/setup.sh` with the packages to run TechMarket, `deploy/setup.sh dev` with those for development too.
# Does nothing where the packages are up to date. PYTHON names an interpreter instead of the newest one found, VENV another folder.
set -eu
unset CDPATH PYTHONHOME
export PIP_USER=no # a pip.conf may set it, and no environment accepts it
cd -- "$(dirname -- "$0")/.."
venv=${VENV:-.venv}
case "${1:-}" in
    "") files="requirements.txt" ;;
    dev) files="requirements.txt requirements-dev.txt" ;;
    *) echo "usage: deploy/setup.sh [dev]" >&2; exit 2 ;;
esac

# Exits with 1 where a package of the requirements is missing, of another version, or cannot be loaded: mysqlclient without its library.
probe_packages='
import re, sys
from importlib.metadata import PackageNotFoundError, version
try:
    import MySQLdb
    for path in sys.argv[1:]:
        for name, wanted in re.findall(r"^([\w.-]+)(?:\[[^]]*\])?==(\S+) \\$", open(path, encoding="utf-8").read(), re.MULTILINE):
            if version(name) != wanted: sys.exit(1)
except (ImportError, PackageNotFoundError):
    sys.exit(1)
'
is_complete() { "$venv/bin/python" -c "$probe_packages" $files 2>/dev/null; }

# The folder keeps a copy of each requirements file that is installed in it.
is_ready() {
    for file in $files; do cmp -s "$file" "$venv/$file" || return 1; done
    is_complete
}
if is_ready; then exit 0; fi

stop() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

# --- A folder that can be written ---
if [ -d "$venv" ]; then
    [ -w "$venv" ] || stop "$venv cannot be written by $(id -un 2>/dev/null || id -u); remove it, or name another folder: make setup VENV=/path/to/venv"
elif [ -e "$venv" ] || [ -L "$venv" ]; then
    stop "$venv is a file or a broken link; remove it and run this again"
elif mkdir -p "$venv" 2>/dev/null; then
    rmdir "$venv"
else
    stop "$venv cannot be created; name a folder that can be: make setup VENV=/path/to/venv"
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
trap 'exit 130' INT TERM HUP

# run_step STEP COMMAND...: one line for the step, and the end of the output where it fails.
run_step() {
    step=$1
    shift
    printf 'setup: %s\n' "$step"
    "$@" >"$log" 2>&1 && return
    tail -n 25 "$log" >&2
    stop "failed: $*"
}

# --- System packages ---
if command -v apt-get >/dev/null; then manager="apt-get install -y"
elif command -v dnf >/dev/null; then manager="dnf install -y"
elif command -v apk >/dev/null; then manager="apk add"
elif command -v brew >/dev/null; then manager="brew install"
else manager=; fi

# need_package APT DNF APK BREW: adds the name for this system to $missing.
missing=
need_package() {
    case "$manager" in
        apt*) missing="$missing $1" ;;
        dnf*) missing="$missing $2" ;;
        apk*) missing="$missing $3" ;;
        brew*) missing="$missing $4" ;;
    esac
}

install_missing() {
    case "$manager" in
        brew*) stop "$1; run: $manager$missing" ;;
        "") stop "$1; install the packages with your system's package manager" ;;
    esac
    [ "$(id -u)" = 0 ] || stop "$1; run: sudo $manager$missing"
    if [ "$manager" = "apt-get install -y" ]; then
        apt-get update >/dev/null 2>&1 || :
        # shellcheck disable=SC2086
        run_step "$1; installing$missing" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=120 $missing
    else
        # shellcheck disable=SC2086
        run_step "$1; installing$missing" $manager $missing
    fi
    missing=
}

# --- Python: the newest one that runs (a pyenv shim may exist and not run) and can create virtual environments ---
probe='
import sys, sysconfig
try:
    import ensurepip, venv; complete = 1
except ImportError:
    complete = 0
version = sys.version_info
if version >= (3, 12) and version.releaselevel == "final" and sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED"):
    print(complete, version[1], sys._base_executable)
'
find_python() {
    if [ -n "${PYTHON:-}" ]; then set -- "$PYTHON"; else
        set -- python3.15 python3.14 python3.13 python3.12 python3 "${PYENV_ROOT:-/nowhere}"/versions/*/bin/python3 \
            "${HOME:-/nowhere}"/.pyenv/versions/*/bin/python3 "${HOME:-/nowhere}"/.local/share/uv/python/*/bin/python3
    fi
    for candidate; do "$candidate" -c "$probe" 2>/dev/null || :; done | sort -k1,1nr -k2,2nr | head -n 1
}

make_venv() {
    found=$(find_python)
    [ -n "$found" ] || stop "no Python 3.12 or newer that runs${PYTHON:+ at $PYTHON}; get one with: uv python install 3.13   (or: pyenv install 3.13, or www.python.org)"
    python=${found#* * }
    version=3.$(echo "$found" | cut -d" " -f2)
    if [ "${found%% *}" = 0 ]; then
        need_package "python$version-venv" python3 python3 "python@$version"
        install_missing "$python cannot create virtual environments"
    fi
    run_step "creating $venv with Python $version ($python)" "$python" -m venv --clear "$venv"
}

# Its Python may be gone, too old, or without pip.
[ -n "$("$venv/bin/python" -c "$probe" 2>/dev/null)" ] && "$venv/bin/python" -m pip --version >/dev/null 2>&1 || make_venv

# --- mysqlclient has no wheel for Linux and macOS, so pip compiles it ---
python=$venv/bin/python
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
compiler=${CC:-$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("CC") or "cc")')}
command -v "${compiler%% *}" >/dev/null || need_package build-essential gcc build-base gcc
if [ -z "${MYSQLCLIENT_CFLAGS:-}" ] || [ -z "${MYSQLCLIENT_LDFLAGS:-}" ]; then
    command -v pkg-config >/dev/null || need_package pkg-config pkgconf-pkg-config pkgconf pkgconf
    pkg-config --exists mysqlclient 2>/dev/null || pkg-config --exists mariadb 2>/dev/null || pkg-config --exists libmariadb 2>/dev/null ||
        need_package libmariadb-dev mariadb-connector-c-devel mariadb-connector-c-dev mariadb-connector-c
fi
[ -f "$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ] ||
    need_package "python$version-dev" python3-devel python3-dev "python@$version"
[ -z "$missing" ] || install_missing "packages to compile mysqlclient are missing"

broken=
is_complete || broken=1
for file in $files; do
    if [ -n "$broken" ] || ! cmp -s "$file" "$venv/$file"; then
        run_step "installing $file" "$python" -m pip install --disable-pip-version-check --no-input --progress-bar off --require-hashes -r "$file"
        cp "$file" "$venv/$file"
    fi
done
