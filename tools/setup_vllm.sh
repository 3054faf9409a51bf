#!/usr/bin/env bash
# Make a virtual environment with vLLM for the CPU, by hash.
#
#   tools/setup_vllm.sh VENV LOCK UV
#
# The lock asks for PyTorch's build for the CPU, which is not on PyPI: UV_FIND_LINKS (or
# PIP_FIND_LINKS) names the folder that has it. Nothing happens while the stamp matches the lock.
set -euo pipefail

venv=${1:?usage: tools/setup_vllm.sh VENV LOCK UV}
lock=${2:?usage: tools/setup_vllm.sh VENV LOCK UV}
uv=$(realpath "${3:?usage: tools/setup_vllm.sh VENV LOCK UV}")
cd "$(dirname "$0")/.."
export UV_FIND_LINKS=${UV_FIND_LINKS:-${PIP_FIND_LINKS:-}}

want=$(sha256sum "$lock" tools/setup_vllm.sh | sha256sum | cut -d' ' -f1)
stamp=$venv/.slalom-stamp
if [[ -x $venv/bin/python && -f $stamp && $(cat "$stamp") == "$want" ]]; then
    exit 0
fi
printf 'Installing %s into %s (3 GB) ...\n' "$lock" "$venv" >&2
rm -rf "$venv"
"$uv" venv --quiet --python 3.11 "$venv"
if ! "$uv" pip install --quiet --python "$venv/bin/python" --require-hashes --no-deps -r "$lock"; then
    printf 'If torch==...+cpu was not found: fetch it from PyTorch and name its folder by\n' >&2
    printf 'UV_FIND_LINKS=FOLDER make vllm-setup\n' >&2
    exit 1
fi
printf '%s\n' "$want" >"$stamp"
