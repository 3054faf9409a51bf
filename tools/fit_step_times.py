"""Fits the twin's step-time coefficients to tables of measured kernels.

Owns the fit and the writing of `src/slalom/twin/data/step_times.json`. The tables are third-party
and are only read, from the folder given or from `$SLALOM_DATA`/aiconfigurator; what is written are
our own coefficients with the error of their fit. Run by hand when tables or basis change:

    python tools/fit_step_times.py [FOLDER]
"""

import csv
import json
import os
import re
import sys
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from slalom.twin.step_time import StepProfile

_OUT = Path(__file__).parent.parent / "src/slalom/twin/data/step_times.json"
_TABLE = "derived_step_times_code_models.csv"
_SOURCE = (
    "our fit to vLLM kernel times measured by AIConfigurator (Apache-2.0, commit 095f58a5), "
    "interpolated to {model} on one {gpu}; host and ingestion terms are estimates"
)
#: Column of the table -> our name, and the host term of a step, ms.
_GPUS = {
    "h100_sxm": ("h100", 0.85),
    "h200_sxm": ("h200", 0.85),
    "a100_sxm": ("a100", 1.5),
    "l40s": ("l40s", 1.5),
}
_INGEST_MS = 13.0
_CODE_MODELS = re.compile("Qwen2.5-Coder|CodeLlama|StarCoder2|DeepSeek-Coder")
_PREFILL = re.compile(r"prefill_ms_(\d+)")
_DECODE = re.compile(r"decode_ms_b(\d+)_ctx(\d+)")
_KNEES = range(32, 513, 16)


def main() -> None:
    """Fit every code model on every device, and write the file."""
    data = os.environ.get("SLALOM_DATA", "data")
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(data) / "aiconfigurator"
    with (folder / _TABLE).open(encoding="utf-8", newline="") as table:
        rows = [row for row in csv.DictReader(table) if _CODE_MODELS.match(row["model"])]
    profiles = [_fit(row) for row in rows]
    lines = ",\n".join("  " + json.dumps(profile.to_json()) for profile in profiles)
    _OUT.write_text("[\n" + lines + "\n]\n", encoding="utf-8")
    for profile in profiles:
        print(f"{profile.name:28} {profile.fit_error:6.1%} {profile.fit_error_max:6.1%}")
    print(f"{len(profiles)} profiles -> {_OUT.name}")


def _fit(row: dict[str, str]) -> StepProfile:
    """Non-negative least squares of relative errors, for the best knee."""
    fits = []
    for knee in _KNEES:
        basis, times_ms = _equations(row, knee)
        weighted = basis / times_ms[:, None]
        found, residual = nnls(weighted, np.ones(len(times_ms)))
        fits.append((residual, knee, found, np.abs(weighted @ found - 1)))
    _, knee, found, errors = min(fits, key=lambda fit: fit[:2])
    flat, token, decode_flat, decode_seq, kv, pair = (_round(ms * 1e6) for ms in found)
    gpu, host_ms = _GPUS[row["gpu"]]
    return StepProfile(
        name=f"{gpu}/{row['model'].lower()}",
        source=_SOURCE.format(model=row["model"], gpu=gpu.upper()),
        host_ns=host_ms * 1e6,
        dense_flat_tokens=knee,
        dense_flat_ns=flat,
        dense_ns_per_token=token,
        decode_flat_ns=decode_flat,
        decode_seq_ns=decode_seq,
        decode_kv_ns_per_token=kv,
        prefill_attention_ns_per_token_ctx=pair,
        ingest_ns=_INGEST_MS * 1e6,
        weights_bytes=round(float(row["weights_gib_bf16"]) * 2**30),
        kv_bytes_per_token=round(float(row["kv_kib_per_token"]) * 1024),
        fit_error=round(float(np.median(errors)), 4),
        fit_error_max=round(float(errors.max()), 4),
    )


def _equations(row: dict[str, str], knee: int) -> tuple[np.ndarray, np.ndarray]:
    """One line for each time of the table, without host terms: the basis, and the time in ms."""
    basis, times_ms = [], []
    for column, text in row.items():
        if not text:
            continue
        if found := _PREFILL.fullmatch(column):
            tokens = int(found[1])
            basis.append([1, max(tokens - knee, 0), 0, 0, 0, tokens**2 / 2])
        elif found := _DECODE.fullmatch(column):
            batch, context = int(found[1]), int(found[2])
            basis.append([1, max(batch - knee, 0), 1, batch, batch * context, 0])
        else:
            continue
        times_ms.append(float(text))
    return np.array(basis, dtype=float), np.array(times_ms)


def _round(value: float) -> float:
    """Five significant digits."""
    return float(f"{value:.5g}")


if __name__ == "__main__":
    main()
