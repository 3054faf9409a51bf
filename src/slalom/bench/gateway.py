"""What the gateway adds: `python -m slalom.bench.gateway [--write FILE] [--quick]`.

Owns the scenarios and the order of the runs: the same upstream reached directly, through Slalom
as it is configured by default and with `open` admission, and through the LiteLLM proxy,
interleaved, several times over. The programs are `gateway_paths`', the page is `gateway_report`'s.
"""

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from slalom.bench.gateway_paths import (
    ENGINE_PLACES,
    LITELLM,
    Cores,
    ProgramError,
    Programs,
    Way,
    programs,
)
from slalom.bench.gateway_report import DEFAULT, DIRECT, LITELLM_WAY, OPEN, Measured, Results, page

#: 20 ms to the first token, then 100 tokens a second.
_PACED = "pace:20000:10000"
_UNPACED = "pace:0:0"
#: Every way is used for so long before anything counts, seconds.
_WARM_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """One load."""

    name: str
    streams: int
    tokens: int
    prompt: str
    seconds: float
    #: What it is asked of: the real engine, or a stub of its own for paced and unpaced loads, since
    #: a scheduler that learns how quick an upstream is expects it to stay the same.
    upstream: Literal["paced", "unpaced", "engine"]
    ramp_s: float = 0.0


SCENARIOS = (
    Scenario("paced-1", 1, 20, _PACED, 4.0, "paced"),
    Scenario("paced-50", 50, 100, _PACED, 5.0, "paced", ramp_s=2.0),
    Scenario("paced-200", 200, 100, _PACED, 5.0, "paced", ramp_s=2.0),
    Scenario("short-50", 50, 8, _UNPACED, 4.0, "unpaced"),
    Scenario("bulk-8", 8, 20_000, _UNPACED, 3.0, "unpaced"),
    Scenario("engine-4", ENGINE_PLACES, 64, "def fibonacci(n):", 5.0, "engine"),
)
#: How Slalom is configured, way by way.
_SCHEDULERS: Mapping[str, Mapping[str, Any]] = {
    DEFAULT: {},
    OPEN: {"admission": {"kind": "open"}},
}
#: A stream of bulk is this long for a relay that would not end otherwise.
_LITELLM_BULK_TOKENS = 2_000
#: It takes part in so many rounds: whole seconds need no more, and cost minutes.
_LITELLM_ROUNDS = 1


def main() -> None:
    """Run the benchmark."""
    # Ends by an exception, so that no program that was started stays behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="write the page to this file")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    parser.add_argument("--quick", action="store_true", help="one short round, to try it out")
    parser.add_argument("--repeats", type=int, help="rounds over everything (default 3)")
    parser.add_argument("--note", help="a sentence for the page, such as what else was running")
    parser.add_argument("--only", action="append", help="only scenarios that start with this")
    parser.add_argument("--no-litellm", action="store_true", help="leave LiteLLM out")
    given = parser.parse_args()
    chosen = [s for s in SCENARIOS if not given.only or s.name.startswith(tuple(given.only))]
    repeats = given.repeats or (1 if given.quick else 3)
    with_litellm = not given.no_litellm and LITELLM.exists()
    if not with_litellm:
        print("LiteLLM is left out (make bench-setup installs it).", file=sys.stderr)
    results = run(chosen, repeats, scale=0.25 if given.quick else 1.0, with_litellm=with_litellm)
    command = "python -m slalom.bench.gateway" + "".join(
        f" {word}" for word in _shown(sys.argv[1:])
    )
    text = page(results, command, note=given.note or "")
    print(text)
    if given.write:
        given.write.parent.mkdir(parents=True, exist_ok=True)
        given.write.write_text(text, encoding="utf-8")
    if given.json:
        given.json.write_text(json.dumps(results.figures(), indent=1), encoding="utf-8")


def _shown(arguments: Sequence[str]) -> Sequence[str]:
    """The arguments as the page shows them: the note is on it anyway."""
    if "--note" not in arguments:
        return arguments
    at = arguments.index("--note")
    return [*arguments[:at], *arguments[at + 2 :]]


def run(
    scenarios: Sequence[Scenario], repeats: int, *, scale: float, with_litellm: bool
) -> Results:
    """Start everything once, then go round: scenario by scenario, way by way."""
    cores = Cores.choose()
    results = Results(cores_pinned=cores.relay is not None, repeats=repeats)
    with tempfile.TemporaryDirectory() as folder, programs(Path(folder), cores) as started:
        ways: dict[str, list[Way]] = {}
        for upstream in sorted({scenario.upstream for scenario in scenarios}):
            ways[upstream] = _ways(started, upstream, with_litellm=with_litellm)
        for turn in range(repeats):
            for scenario in scenarios:
                for way in ways[scenario.upstream]:
                    if way.name == LITELLM_WAY and turn >= _LITELLM_ROUNDS:
                        continue
                    results.add(scenario.name, way.name, _measure(started, scenario, way, scale))
    return results


def _ways(started: Programs, upstream: str, *, with_litellm: bool) -> list[Way]:
    is_real = upstream == "engine"
    port = started.engine() if is_real else started.stub()
    places = ENGINE_PLACES if is_real else 1024
    ways = [Way(DIRECT, port, None)]
    ways += [started.slalom(port, places, *chosen) for chosen in _SCHEDULERS.items()]
    if with_litellm:
        try:
            ways.append(started.litellm(port))
        except ProgramError as problem:
            print(f"LiteLLM is left out: {problem}", file=sys.stderr)
    # At the pace that follows: one who learns how quick an upstream is would learn it wrongly.
    prompt = next(scenario.prompt for scenario in SCENARIOS if scenario.upstream == upstream)
    for way in ways:
        started.load({"port": way.port, "streams": 1, "tokens": 2, "prompt": prompt,
                      "seconds": _WARM_SECONDS})  # fmt: skip
    return ways


def _measure(started: Programs, scenario: Scenario, way: Way, scale: float) -> Measured:
    tokens = scenario.tokens
    if way.name == LITELLM_WAY and scenario.name.startswith("bulk"):
        tokens = _LITELLM_BULK_TOKENS
    before_s = way.cpu_s()
    tally = started.load(
        {
            "port": way.port,
            "streams": scenario.streams,
            "tokens": tokens,
            "prompt": scenario.prompt,
            "seconds": scenario.seconds * scale,
            "ramp_s": scenario.ramp_s * scale,
        }
    )
    measured = Measured.of(tally, tokens=tokens, relay_cpu_s=way.cpu_s() - before_s)
    print(f"{scenario.name:10} {way.name:16} {measured}", file=sys.stderr)
    return measured


if __name__ == "__main__":
    main()
