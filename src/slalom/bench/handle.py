"""The cost of one scheduling decision: µs for each event, by queue length and number of replicas.

Owns the measuring and the command line. The states are `handle_states`', the page is
`handle_report`'s. Run it with
`python -m slalom.bench.handle [--quick] [--write docs/benchmarks/handle.md]`.
"""

import argparse
import gc
from collections.abc import Callable, Sequence
from pathlib import Path

from slalom.bench.handle_report import Cell, render
from slalom.bench.handle_states import SteadyState, busy, pressed

QUEUES = (10, 1_000, 10_000)
REPLICAS = (1, 100, 1_000)
#: Title of a state -> how it is built from (queue, replicas).
STATES: dict[str, Callable[[int, int], SteadyState]] = {
    "All models resident, every place taken": busy,
    "Twice as many models as fit": pressed,
}


def measure(
    queues: Sequence[int] = QUEUES, replicas: Sequence[int] = REPLICAS, cycles: int = 3_000
) -> list[Cell]:
    """Every state at every size.

    Args:
        queues: Requests that wait.
        replicas: Replicas that fit.
        cycles: Rounds measured in each; a round is some five to ten events.
    """
    return [
        _measure_one(title, queue, count, cycles)
        for title in STATES
        for count in replicas
        for queue in queues
    ]


def _measure_one(title: str, queue: int, replicas: int, cycles: int) -> Cell:
    state = STATES[title](queue, replicas)
    for _ in range(cycles // 10):
        state.cycle(measure=False)
    gc.collect()
    for _ in range(cycles):
        state.cycle()
    return Cell(title, queue, replicas, state.costs_ns)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write if asked to."""
    parser = argparse.ArgumentParser(
        prog="python -m slalom.bench.handle", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "--quick", action="store_true", help="small sizes, few rounds: a smoke test"
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="also write the page to FILE")
    chosen = parser.parse_args(arguments)
    cells = measure(QUEUES[:2], REPLICAS[:2], cycles=100) if chosen.quick else measure()
    flags = " --quick" if chosen.quick else ""
    flags += f" --write {chosen.write}" if chosen.write else ""
    page = render(cells, f"python -m slalom.bench.handle{flags}")
    print(page, end="")
    if chosen.write:
        chosen.write.write_text(page)


if __name__ == "__main__":
    main()
