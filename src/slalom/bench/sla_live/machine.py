"""What programs take of the machine: ours, an engine of ours, and everybody else.

Owns the watch over processes that go on beside what is measured; `fidelity_cores.Disturbance`
counts programs of ours only once they have ended. Called by the comparison and the typing part.
"""

import os

import psutil

_ENGINE = "slalom.engines.llama_cpp_process"


class Watch:
    """How much of the machine others took since this was made."""

    def __init__(self) -> None:
        self._busy_s, self._all_s, self._own_s = _spent_s()

    def ours_s(self) -> float:
        """Processor seconds that we and what we started took since this was made."""
        return _spent_s()[2] - self._own_s

    def share(self) -> float:
        """Processor time of programs that are not ours, as a share of all there was."""
        busy_s, all_s, own_s = _spent_s()
        passed_s = all_s - self._all_s
        others_s = (busy_s - self._busy_s) - (own_s - self._own_s)
        return min(max(others_s / passed_s, 0.0), 1.0) if passed_s > 0 else 0.0


def _spent_s() -> tuple[float, float, float]:
    """Processor seconds used by all, that there were, and used by us and what we started.

    Programs that came and went count with the one that started them and saw them end.
    """
    times = psutil.cpu_times()
    idle_s = times.idle + getattr(times, "iowait", 0.0)
    # A guest's time is part of the user's.
    all_s = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    me = os.times()
    own_s = me.user + me.system + me.children_user + me.children_system
    for child in psutil.Process().children(recursive=True):
        try:
            spent = child.cpu_times()
        except psutil.Error:
            continue
        own_s += spent.user + spent.system
        # Not every system tells: what it does not counts as others'.
        own_s += getattr(spent, "children_user", 0.0) + getattr(spent, "children_system", 0.0)
    return all_s - idle_s, all_s, own_s


def engines() -> set[int]:
    """Process ids of the llama.cpp engines among our descendants."""
    found = set()
    for child in psutil.Process().children(recursive=True):
        try:
            if _ENGINE in child.cmdline():
                found.add(child.pid)
        except psutil.Error:
            continue
    return found


def cpu_s(pid: int) -> float:
    """Processor time of a process so far, seconds."""
    spent = psutil.Process(pid).cpu_times()
    return float(spent.user + spent.system)
