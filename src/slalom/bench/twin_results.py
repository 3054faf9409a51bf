"""The standing loads under every policy: what the twin says of them, as a page.

Owns the choice of figures and the page. Nothing here depends on the machine: the same version
writes the same page. Run as `python -m slalom.bench.twin_results [--seeds N] [--write FILE]`.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from slalom.config.scenario_load import LoadedScenario, load_scenario
from slalom.errors import ConfigError
from slalom.metrics.confidence import Estimate
from slalom.metrics.results import Results
from slalom.twin.compare import compare
from slalom.twin.from_file import policy_sets
from slalom.workload.load import LoadPlan

#: Figure -> (heading, factor, digits).
_COLUMNS: Mapping[str, tuple[str, float, int]] = {
    "goodput_per_s": ("good/s", 1, 2),
    "attainment": ("attained, %", 100, 1),
    "attainment_min": ("worst task, %", 100, 1),
    "ttft_ms.p50": ("TTFT p50, ms", 1, 0),
    "ttft_ms.p95": ("TTFT p95, ms", 1, 0),
    "e2e_ms.p95": ("E2E p95, ms", 1, 0),
    "refused": ("shed", 1, 0),
    "cancelled": ("cancelled", 1, 0),
    "superseded": ("superseded", 1, 0),
    "loads": ("loads", 1, 0),
    "useful_token_share": ("useful tokens, %", 100, 0),
}
#: Shares of stale requests to try: what is known of real ones lies between the outer two.
_STALE_SHARES = (0.3, 0.45, 0.6)
#: Who tells -> (share of editors that cancel, whether requests name their document).
_TOLD = {
    "editors cancel": (1.0, False),
    "document is named": (0.0, True),
    "nobody tells": (0.0, False),
}
_COMMAND = "python -m slalom.bench.twin_results --write docs/benchmarks/twin.md"


def page(folder: Path, seeds: int) -> Iterator[str]:
    """The page, line by line.

    Args:
        folder: With the scenario files.
        seeds: Repetitions of each load.
    """
    yield "# The standing loads in the twin\n"
    yield (
        "What the twin says of the loads in `scenarios/`, each under the policies that its file\n"
        f"names, over {seeds} seeds, with 95 % intervals. Engines are laws here: vLLM's steps\n"
        "with our fits of published kernel times, and SABER's published speeds. Replicas on one\n"
        "device do not slow each other down. The same version writes the same page on any\n"
        f"machine: `{_COMMAND}`.\n"
    )
    yield (
        "Latencies are of whole answers, from the scheduled arrival: read them together with what\n"
        "was shed. Figures of seeds differ as much as the loads do; policies meet the same loads.\n"
    )
    for path in sorted(folder.glob("*.yaml")):
        try:
            loaded = load_scenario(path)
        except ConfigError as error:
            if "SLALOM_DATA" not in str(error):
                raise
            sys.stderr.write(f"{path.name}: left out: its trace is not here (SLALOM_DATA)\n")
            continue
        sys.stderr.write(f"{path.name}\n")
        yield from _section(loaded, seeds)
        if any(kind.keystrokes for group in loaded.plan.groups for kind in group.kinds):
            yield from _stale_section(loaded, seeds)


def _section(loaded: LoadedScenario, seeds: int) -> Iterator[str]:
    policies = policy_sets(loaded)
    has_trace = any(group.trace for group in loaded.plan.groups)
    results = compare(loaded, policies, range(1 if has_trace else seeds))
    yield f"## {loaded.file.name}\n"
    yield f"{loaded.file.about} {results.rate_per_s:.3g} arrivals/s.\n"
    yield from _table(results)
    yield ""


def _stale_section(loaded: LoadedScenario, seeds: int) -> Iterator[str]:
    """What the unknown share of stale requests does to a load, and what it is worth to tell."""
    name, chosen = list(policy_sets(loaded).items())[-1]
    yield f"### {loaded.file.name}, by how many are stale and who tells the server\n"
    yield (
        f"Under `{name}`, with bursts made rarer so that there are as many requests a second in\n"
        "every row. *Editors cancel*: all do. *Document is named*: none does, but the server ends\n"
        "what a newer request of the same document makes stale. *Nobody tells*: stale answers are\n"
        "written to their ends.\n"
    )
    yield "| stale | who tells | good/s | attained, % | useful tokens, % | wasted device, s |"
    yield "| --- | --- | ---: | ---: | ---: | ---: |"
    for share in _STALE_SHARES:
        for told, (cancels, named) in _TOLD.items():
            plan = _with_stale(loaded.plan, share, cancels, named=named)
            results = compare(replace(loaded, plan=plan), {name: chosen}, range(seeds))
            found = results.estimates(name)
            cells = [
                _cell(found["goodput_per_s"], 1, 2),
                _cell(found["attainment"], 100, 1),
                _cell(found["useful_token_share"], 100, 0),
                _cell(found["wasted_device_s"], 1, 1),
            ]
            yield f"| {share:.0%} | {told} | {' | '.join(cells)} |"
    yield ""


def _with_stale(plan: LoadPlan, share: float, cancels: float, *, named: bool) -> LoadPlan:
    """A load with another share of stale requests, and as many requests."""
    groups = []
    for group in plan.groups:
        kinds = []
        for kind in group.kinds:
            keys = kind.keystrokes
            if keys is not None:
                rate = (1 - share) / (1 - keys.share)
                keys = replace(keys, share=share, cancels=cancels, named=named)
            kinds.append(replace(kind, keystrokes=keys))
        groups.append(replace(group, kinds=tuple(kinds)))
    return replace(plan, groups=tuple(groups)).scaled(rate)


def _table(results: Results) -> Iterator[str]:
    known = {policy: results.estimates(policy) for policy in results.policies}
    shown = [name for name in _COLUMNS if any(name in found for found in known.values())]
    yield f"| policies | {' | '.join(_COLUMNS[name][0] for name in shown)} |"
    yield "| --- |" + " ---: |" * len(shown)
    for policy, found in known.items():
        cells = (_cell(found.get(name), *_COLUMNS[name][1:]) for name in shown)
        yield f"| {policy} | {' | '.join(cells)} |"


def _cell(found: Estimate | None, factor: float, digits: int) -> str:
    if found is None:
        return "–"
    margin = "" if found.margin is None else f" ±{found.margin * factor:.{digits}f}"
    return f"{found.mean * factor:.{digits}f}{margin}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all and print or write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="repetitions of each load")
    parser.add_argument("--folder", type=Path, default=Path("scenarios"), help="scenario files")
    parser.add_argument("--write", type=Path, help="the page's file; stdout without it")
    chosen = parser.parse_args(arguments)
    text = "\n".join(page(chosen.folder, chosen.seeds)).rstrip() + "\n"
    if chosen.write is None:
        sys.stdout.write(text)
    else:
        chosen.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
