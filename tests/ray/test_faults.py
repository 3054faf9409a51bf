"""Parts of a Ray cluster die under traffic: each request ends, once, and the books hold after.

Opt-in (`make test-ray`): needs the environment of `make ray-setup`. Each test has a cluster of its
own, because a cluster that lost a node is another one.
"""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from slalom.testing.patience import until
from slalom.testing.told_clients import CONNECTION_LOST, Traffic
from tests.ray.faults_page import Row, note
from tests.ray.fleet import HEADERS, HOLD_S, MODELS, PYTHON, TOKEN_S, TOKENS, Fleet, fleet

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not PYTHON.exists(), reason="no Ray: make ray-setup"),
]

_PER_S, _SECONDS = 6.0, 16.0
_ANSWER_S = TOKENS * TOKEN_S
#: No request may take longer: it is held once, and answered or refused then.
_BOUND_S = HOLD_S + 10 * _ANSWER_S
_SETTLED_S = 90.0
#: For so long nobody may be missing: what was killed is not missed at once.
_CALM_S = 3.0
#: A look takes less, even on a busy machine.
_HELD_S = 1.0


def _engine(up: Fleet) -> int:
    return up.engines()[0].pid


def _engine_actor(up: Fleet) -> int:
    """Its worker: the engine's parent."""
    return up.engines()[0].ppid()


def _core(up: Fleet) -> int:
    return up.core_pid


def _ingress(up: Fleet) -> int:
    return int(up.told["ingresses"][0]["pid"])


def _node_of_core(up: Fleet) -> int:
    return up.raylet_of(up.core_pid)


def _node_of_engines(up: Fleet) -> int:
    """A node with engines, but not the core; else with the fewest of what is not an engine."""
    core = up.raylet_of(up.core_pid)
    nodes = Counter(up.raylet_of(one.pid) for one in up.engines())
    return next(node for node, _ in nodes.most_common() if node != core)


FAULTS: dict[str, Callable[[Fleet], int]] = {
    "an engine's program": _engine,
    "the actor of an engine": _engine_actor,
    "a node with engines": _node_of_engines,
    "the core": _core,
    "the core's node": _node_of_core,
    "an ingress": _ingress,
}


@pytest.mark.parametrize("killed", FAULTS)
def test_every_request_ends_once_and_the_books_are_right_after(killed: str, tmp_path: Path) -> None:
    with fleet(tmp_path) as up:
        asyncio.run(_play(up, killed))


async def _play(up: Fleet, killed: str) -> None:
    await _settles(up)
    traffic = Traffic(_name(killed), up.urls, MODELS, _PER_S, TOKENS, HEADERS)
    playing = asyncio.create_task(traffic.run(_SECONDS))

    async def under_way() -> bool:
        return len(traffic.outcomes) >= _SECONDS / 4 * _PER_S

    await until(under_way, "some have been answered")
    victim = FAULTS[killed](up)
    lost_urls = _dies_with(up, victim)
    os.kill(victim, signal.SIGKILL)
    killed_s = time.monotonic()
    settled_s = await _settles(up, since_s=killed_s, ends=playing)
    await playing
    outcomes = traffic.outcomes
    wrong = [text for one in outcomes if (text := one.wrong(_BOUND_S))]
    assert not wrong, wrong
    lost = [one for one in outcomes if one.code == CONNECTION_LOST]
    assert all(one.url in lost_urls for one in lost), [(one.id, one.url) for one in lost]
    late = [one for one in outcomes if one.sent_s > killed_s + max(settled_s, _CALM_S)]
    assert all(one.whole for one in late), [(one.id, one.code) for one in late if not one.whole]
    errors = Counter(one.code for one in outcomes if one.code and one.code != CONNECTION_LOST)
    begun = up.begun()
    row = Row(
        killed=killed,
        requests=len(outcomes),
        whole=sum(one.whole for one in outcomes),
        errors=dict(errors),
        lost=len(lost),
        begun_twice=sum(begun.get(one.id, 0) > 1 for one in outcomes),
        away_s=max(one.took_s for one in outcomes) - _ANSWER_S,
        settled_s=settled_s,
    )
    note(row, raylets=len(up.raylets), tokens=TOKENS, answer_s=_ANSWER_S, per_s=_PER_S,
         seconds=_SECONDS, hold_s=HOLD_S)  # fmt: skip
    # Beside those of an ingress that is away, no more than what was under way can be hurt.
    assert row.requests - row.whole - row.lost <= _PER_S * (_ANSWER_S + 2.0), row


async def _settles(
    up: Fleet, *, since_s: float = 0.0, ends: "asyncio.Task[None] | None" = None
) -> float:
    """Wait until the ledger and the processes agree; gives when the last of them came back.

    Args:
        up: The fleet.
        since_s: From when on, by the monotonic clock.
        ends: Traffic that must have ended.

    Returns:
        Time from then to the last look at which somebody was missing, seconds.
    """
    missing_s, last = since_s, ""

    async def restored() -> bool:
        nonlocal missing_s, last
        began_s = time.monotonic()
        last, now_s = await up.unrestored(), time.monotonic()
        # A look that an ingress held back is one at which the core was missing.
        if last or now_s - began_s > _HELD_S:
            missing_s = now_s
        return now_s - missing_s >= _CALM_S and (ends is None or ends.done())

    async def settled() -> bool:
        nonlocal last
        last = await up.unsettled()
        return not last

    def explain() -> str:
        return f"{last}; {up.about()}"

    await until(restored, "everybody is back", seconds=_SETTLED_S, explain=explain)
    await until(settled, "books and engines agree", seconds=_SETTLED_S, explain=explain)
    return missing_s - since_s


def _dies_with(up: Fleet, victim: int) -> set[str]:
    """Addresses of the ingresses that die with a process."""
    found = set()
    for one in up.told["ingresses"]:
        pid = int(one["pid"])
        if pid == victim or up.raylet_of(pid) == victim:
            found.add(str(one["url"]))
    return found


def _name(killed: str) -> str:
    return killed.replace(" ", "-").replace("'", "")
