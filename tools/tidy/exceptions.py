"""What may break a rule today, each with its reason. These lists may only shrink.

A number is the size at the time: a listed file or function may not grow beyond it, and once it
keeps the rule its row must go. Nobody adds a row to make a check pass; split the thing instead.
Read by `sizes`, `names` and `sleeps`.
"""

#: Path -> (lines allowed, reason).
LONG_FILES: dict[str, tuple[int, str]] = {}

#: "path::qualified.name" -> (lines allowed, reason).
LONG_FUNCTIONS: dict[str, tuple[int, str]] = {}

#: Path of a test that may call a sleep -> reason.
SLEEPING_TESTS: dict[str, str] = {}

#: Identifiers that hold a banned word because somebody else's interface is called so -> reason.
FOREIGN_NAMES: dict[str, str] = {
    "service_tier": "a field of OpenAI's requests",
    "service_time": "queueing theory's word for the time a server takes",
}

#: Import name of a module that nothing in the package imports -> who does use it.
ENTRY_POINTS: dict[str, str] = {
    "slalom.__main__": "python -m slalom",
    "slalom.bench.chains.__main__": "make bench-chains",
    "slalom.bench.confidence.__main__": "make bench-confidence",
    "slalom.bench.fidelity": "make fidelity",
    "slalom.bench.gateway": "make bench-gateway",
    "slalom.bench.handle": "make bench-handle",
    "slalom.bench.fleet.__main__": "make bench-fleet",
    "slalom.bench.ray_live.__main__": "make bench-ray",
    "slalom.bench.residency.__main__": "make bench-residency",
    "slalom.bench.saber_grid": "python -m slalom.bench.saber_grid",
    "slalom.bench.sla.__main__": "make bench-sla",
    "slalom.bench.residency_live.__main__": "make bench-residency-live",
    "slalom.bench.sla_live.__main__": "make bench-sla-live",
    "slalom.bench.step_times": "python -m slalom.bench.step_times",
    "slalom.bench.twin": "python -m slalom.bench.twin",
    "slalom.bench.twin_results": "python -m slalom.bench.twin_results",
}
