"""No policy does better: the linear program whose value bounds the number of good requests.

Owns the choice of requests and models that enter it, and the reading of its solution. A request
is a share between 0 and 1 of one; work may be split and paused at will; replicas may be loaded
in parts. docs/explanation/bound.md says why that is an upper bound. Called by `bound_api`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import floor

from slalom.twin.bound_cells import Windows, grid_of
from slalom.twin.bound_jobs import Job, ModelJobs
from slalom.twin.bound_program import Program
from slalom.twin.bound_residency import share_memory, share_window
from slalom.twin.bound_rows import add_model
from slalom.twin.scenario import Scenario

#: What rounding in the program's own arithmetic may take off.
_GRAIN = 1e-6


@dataclass(frozen=True, slots=True)
class Upper:
    """The bound, with the shares that the relaxed optimum gives to requests."""

    good: int
    #: By request id; one that is not named can never be good, or is good without limits.
    shares: dict[str, float] = field(default_factory=dict)


def upper_bound(
    scenario: Scenario, models: Sequence[ModelJobs], *, iterations_max: int = 60_000
) -> Upper:
    """Bound the good requests of a scenario over all policies.

    Args:
        scenario: Its devices; its policies and parameters do not matter.
        models: Its requests (`bound_jobs.jobs_of`).
        iterations_max: Of the solver; when they are used up the bound is looser, not wrong.
    """
    free = sum(model.possible(job) for model in models for job in model.jobs if job.endless)
    parts = [(model, [job for job in model.jobs if _counts(model, job)]) for model in models]
    parts = [(model, jobs) for model, jobs in parts if jobs]
    if not parts:
        return Upper(free)
    program = Program()
    windows = [Windows.of(jobs, model.curve, model.load_s) for model, jobs in parts]
    borders = grid_of(windows)
    sides = [
        add_model(program, part.engine.model, part.curve, window, part.load_s, borders)
        for (part, _), window in zip(parts, windows, strict=True)
    ]
    for device in scenario.devices:
        # What may be elsewhere is bound by no one device: looser, not wrong.
        here = [side for side in sides if side.model.spec.homes == (device.id,)]
        share_window(program, here, device, borders)
        share_memory(program, here, device, borders)
    solution = program.solve(iterations_max)
    shares = {
        job.id: float(share)
        for side, (_, jobs) in zip(sides, parts, strict=True)
        for job, share in zip(jobs, solution.point[side.good], strict=True)
    }
    return Upper(free + min(floor(solution.upper + _GRAIN), len(shares)), shares)


def _counts(model: ModelJobs, job: Job) -> bool:
    """Whether a job competes for the engine: it could be good, and not just whenever it runs."""
    return not job.endless and model.possible(job)
