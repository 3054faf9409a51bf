"""The page about the step profiles that ship: how well they fit, and what they give.

Owns the figures they are compared with and the page's text. Measures nothing: the profiles are
what `tools/fit_step_times.py` wrote. Run by hand: `python -m slalom.bench.step_times`.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

from slalom.twin.profiles import shipped_profiles
from slalom.twin.step_time import StepProfile
from slalom.units import MS, SECOND

_CONTEXT = 2_048


@dataclass(frozen=True, slots=True)
class Figures:
    """What kernels alone take on an H100, with prompts and contexts of 2,048 tokens."""

    #: Thousands of prompt tokens read per second.
    prefill: float
    #: Time of a token, ms, of each of 1, 8 and 32 sequences; None where they do not fit.
    decode: tuple[float | None, float | None, float | None]


#: Single-stream and low-load figures of kernel time, rounded as they were noted down.
FIGURES: dict[str, Figures] = {
    "h100/qwen2.5-coder-0.5b": Figures(486, (1.1, 1.2, 1.3)),
    "h100/qwen2.5-coder-1.5b": Figures(199, (2.1, 2.2, 2.8)),
    "h100/codellama-7b": Figures(51, (5.5, 8.3, 16.9)),
    "h100/qwen2.5-coder-7b": Figures(49, (5.7, 6.1, 7.5)),
    "h100/starcoder2-15b": Figures(23, (12.4, 12.4, 14.1)),
    "h100/qwen2.5-coder-14b": Figures(26, (11.0, 12.5, 16.7)),
    "h100/qwen2.5-coder-32b": Figures(11, (23.9, 26.6, None)),
    "h100/codellama-34b": Figures(10, (26.1, 27.0, None)),
    "h100/deepseek-coder-33b": Figures(11, (25.8, 26.9, None)),
}


def prefill_rate(profile: StepProfile) -> float:
    """Thousands of prompt tokens per second, without host time."""
    kernels_ns = profile.prefill_ns(_CONTEXT) - profile.host_ns
    return _CONTEXT * SECOND / kernels_ns / 1_000


def decode_ms(profile: StepProfile, batch: int) -> float:
    """Time of a token of each of so many sequences without host time, ms."""
    return (profile.decode_ns(batch, _CONTEXT) - profile.host_ns) / MS


def errors() -> list[float]:
    """Relative errors against all figures, with their signs."""
    found = []
    for name, figures in FIGURES.items():
        profile = shipped_profiles()[name]
        found.append(prefill_rate(profile) / figures.prefill - 1)
        found += [
            decode_ms(profile, batch) / figure - 1
            for batch, figure in zip((1, 8, 32), figures.decode, strict=True)
            if figure is not None
        ]
    return found


def page() -> str:
    """The page of the documentation."""
    sizes = [abs(error) for error in errors()]
    verdict = (
        f"Over these {len(sizes)} figures the mean error is {fmean(sizes):.1%}, the median "
        f"{median(sizes):.1%}, the largest {max(sizes):.1%}."
    )
    lines = [
        _HEAD,
        verdict,
        "",
        "| H100, 2,048 tokens | prefill K tok/s | decode ms, 1 | 8 | 32 |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, figures in FIGURES.items():
        profile = shipped_profiles()[name]
        cells = [_cell(prefill_rate(profile), figures.prefill)]
        for batch, figure in zip((1, 8, 32), figures.decode, strict=True):
            cells.append(_cell(decode_ms(profile, batch), figure) if figure is not None else "")
        lines.append(f"| {name.partition('/')[2]} | " + " | ".join(cells) + " |")
    lines += [_FITS]
    for name, profile in shipped_profiles().items():
        alone_ms = profile.decode_ns(1, _CONTEXT) / MS
        lines.append(
            f"| {name} | {profile.fit_error:.1%} | {profile.fit_error_max:.1%} "
            f"| {alone_ms:.1f} | {profile.prefill_ns(_CONTEXT) / MS:.0f} "
            f"| {profile.kv_bytes_per_token / 1024:.0f} |"
        )
    return "\n".join(lines) + "\n"


def _cell(ours: float, figure: float) -> str:
    return f"{ours:.3g} ({figure:g}, {ours / figure - 1:+.0%})"


_HEAD = """# Step times of the twin

How long one step of an engine takes, for 15 code models on four devices: our own coefficients,
fitted to kernel times that AIConfigurator measured under vLLM. Page made by:

<!-- skip: writes the page itself -->
```console
python -m slalom.bench.step_times --write docs/benchmarks/twin-step-times.md
```

The coefficients themselves come from `python tools/fit_step_times.py FOLDER`, which reads the
tables; they are not part of the project. The law: a step takes host time, plus the dense part
(flat up to a number of tokens, then linear), plus attention of prompts (for each pair of a prompt
token and one it looks at), plus attention of those that write (flat, for each, and for each token
of context).

## Against single-stream and low-load figures

The profile's value, and in parentheses the figure and the difference. Figures and fit both come
from kernel times: this shows what the few coefficients lose, not how near an engine is. That is
what `slalom calibrate` and the fidelity benchmark are for.
"""

_FITS = """
## Every profile

Errors are of the fit, over all prompt lengths, batches and contexts of its table, host time left
out. Times include host time, which is an estimate: 0.85 ms a step on H100 and H200, 1.5 ms on A100
and L40S. Ingestion (13 ms a request, an estimate too) comes on top. The largest errors are single
cells of small models at long contexts, above all on the L40S.

| profile | median error | largest | decode ms, 1 at 2,048 | prefill ms, 2,048 | KV KiB/token |
|---|--:|--:|--:|--:|--:|"""


def main(argv: Sequence[str] | None = None) -> None:
    """Print or write the page."""
    parser = argparse.ArgumentParser(prog="python -m slalom.bench.step_times")
    parser.add_argument("--write", type=Path, help="the page to write instead of printing it")
    arguments = parser.parse_args(argv)
    if arguments.write:
        arguments.write.write_text(page(), encoding="utf-8")
    else:
        sys.stdout.write(page())


if __name__ == "__main__":
    main()
