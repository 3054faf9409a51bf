"""The program that fits the shipped profiles: a table made of a known law gives that law back."""

import csv
import json
from pathlib import Path

import pytest

from slalom.twin.step_time import StepProfile
from tools import fit_step_times

LAW = StepProfile(
    "true",
    dense_flat_tokens=128,
    dense_flat_ns=6_000_000,
    dense_ns_per_token=40_000,
    decode_flat_ns=300_000,
    decode_seq_ns=9_000,
    decode_kv_ns_per_token=20,
    prefill_attention_ns_per_token_ctx=1.5,
)


def _row(model: str) -> dict[str, str]:
    row = {
        "model": model,
        "gpu": "h100_sxm",
        "weights_gib_bf16": "14",
        "kv_kib_per_token": "56",
        # Not every size was measured on every device.
        "prefill_ms_65536": "",
    }
    for tokens in (64, 256, 1_024, 4_096, 16_384):
        row[f"prefill_ms_{tokens}"] = str(LAW.prefill_ns(tokens) / 1e6)
    for batch in (1, 8, 64, 256):
        for context in (256, 2_048, 8_192):
            row[f"decode_ms_b{batch}_ctx{context}"] = str(LAW.decode_ns(batch, context) / 1e6)
    return row


def test_a_known_law_is_found_in_its_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [_row("Qwen2.5-Coder-7B"), _row("Some-Chat-Model-7B")]
    with (tmp_path / "derived_step_times_code_models.csv").open("w", newline="") as table:
        writer = csv.DictWriter(table, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    out = tmp_path / "step_times.json"
    monkeypatch.setattr(fit_step_times, "_OUT", out)
    monkeypatch.setattr("sys.argv", ["fit_step_times.py", str(tmp_path)])
    fit_step_times.main()
    (found,) = [StepProfile.from_json(entry) for entry in json.loads(out.read_text())]
    assert found.name == "h100/qwen2.5-coder-7b", "models that write no code are left out"
    assert found.dense_flat_tokens == 128
    assert found.fit_error_max < 0.001
    host_ns = found.host_ns - LAW.host_ns
    assert host_ns == 850_000, "the table has no host term: it is added"
    for batch, context in ((1, 500), (32, 3_000), (200, 1_000)):
        step_ns = found.decode_ns(batch, context) - host_ns
        assert step_ns == pytest.approx(LAW.decode_ns(batch, context), rel=0.001)
    assert found.prefill_ns(3_000) - host_ns == pytest.approx(LAW.prefill_ns(3_000), rel=0.001)
    assert found.weights_bytes == 14 * 2**30
