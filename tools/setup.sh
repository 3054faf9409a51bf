#!/usr/bin/env bash
# Make or refresh a virtual environment from one of the lock files, by hash.
#
#   tools/setup.sh VENV LOCK [--editable]
#
# Nothing happens while the stamp inside VENV matches the lock, the project file, the interpreter
# and the place of the checkout, so this is cheap to run before every other target.
set -euo pipefail

venv=${1:?usage: tools/setup.sh VENV LOCK [--editable]}
lock=${2:?usage: tools/setup.sh VENV LOCK [--editable]}
editable=${3:-}
cd "$(dirname "$0")/.."

# Two makes at once must not build one environment together.
if command -v flock >/dev/null 2>&1; then
    exec 9>"$venv.lock"
    flock 9
fi

say() { printf '%s\n' "$*" >&2; }

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

complete() { "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; }

# The first that is new enough and can make environments; else the first that is new enough.
find_python() {
    local candidate second=
    for candidate in ${PYTHON:-} python3.11 python3.12 python3.13 python3; do
        if command -v "$candidate" >/dev/null 2>&1 && new_enough "$candidate"; then
            if complete "$candidate"; then
                command -v "$candidate"
                return 0
            fi
            second=${second:-$(command -v "$candidate")}
        fi
    done
    [[ -n $second ]] && printf '%s\n' "$second"
}

if ! python=$(find_python); then
    say "Slalom needs Python 3.11 or newer, and found none on the PATH."
    say "  Debian, Ubuntu:  sudo apt-get install python3 python3-venv"
    say "  macOS:           brew install python@3.12"
    say "Or name one yourself:  make setup PYTHON=/path/to/python3.12"
    exit 1
fi

digest() {
    {
        cat "$lock" pyproject.toml tools/setup.sh
        "$python" -VV
        pwd
    } | "$python" -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())'
}

stamp=$venv/.slalom-stamp
want=$(digest)
if [[ -x $venv/bin/python && -f $stamp && $(cat "$stamp") == "$want" ]]; then
    exit 0
fi

say "Installing $lock into $venv (a minute the first time) ..."
rm -f "$stamp"
if [[ -e $venv ]] && ! { [[ -x $venv/bin/python ]] && new_enough "$venv/bin/python"; }; then
    rm -rf "$venv"
fi
if [[ ! -e $venv ]] && ! "$python" -m venv "$venv"; then
    rm -rf "$venv"
    say "$python could not make a virtual environment; its 'venv' module is probably missing."
    say "  Debian, Ubuntu:  sudo apt-get install python3-venv"
    exit 1
fi
"$venv/bin/python" -m pip install -qq --disable-pip-version-check --require-hashes -r "$lock"
if [[ $editable == --editable ]]; then
    "$venv/bin/python" -m pip install -qq --disable-pip-version-check \
        --no-deps --no-build-isolation --editable .
fi
printf '%s\n' "$want" >"$stamp"
say "$venv is ready."
