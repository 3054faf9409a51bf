#!/usr/bin/env bash
# Train the bundled models in an environment of their own and write them into the package.
#
#   tools/train/run.sh [arguments of train_bundled.py]
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
venv=${TRAIN_VENV:-$root/.venv-train}
out=${TRAIN_OUT:-$root/build/train}

if [ ! -x "$venv/bin/python" ]; then
    "${PYTHON:-python3}" -m venv "$venv"
fi
"$venv/bin/python" -m pip install --quiet -r "$here/requirements.txt"
"$venv/bin/python" "$here/train_bundled.py" --out "$out" "$@"
"$venv/bin/python" "$here/model_card.py" --records "$out" --package "$root/src/slalom/models/data"
