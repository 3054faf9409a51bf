"""Random worlds with chains in them: safe after every step, and nothing is left of any chain."""

from collections import Counter

from slalom.core.actions import EndRequest, Reason
from slalom.core.journal import replay
from slalom.testing.swarm import survive
from slalom.testing.swarm_chains import chained_world
from slalom.twin.run import build_scheduler

#: Worlds; as many again with another first seed show more.
SEEDS = range(40)


def test_every_world_with_chains_is_survived_and_leaves_none() -> None:
    seen: Counter[str] = Counter()
    for seed in SEEDS:
        try:
            survived = survive(chained_world(seed))
        except Exception as error:
            error.add_note(f"the world of seed {seed}")
            raise
        fresh = build_scheduler(survived.scenario)
        assert replay(fresh, survived.result.entries) is None, f"seed {seed} replays otherwise"
        # The time-outs of chains are timers: the run ends when nothing is left to happen.
        assert not fresh.state.chains, f"seed {seed}"
        assert not any(model.announced for model in fresh.state.models.values()), f"seed {seed}"
        seen.update(dict(survived.result.snapshot.counters))
        ends = [
            action
            for entry in survived.result.entries
            for action in entry.actions
            if isinstance(action, EndRequest)
        ]
        seen["stopped"] += sum(end.reason == Reason.CHAIN_ABANDONED for end in ends)
    for name in ("opened", "done", "late", "idle", "abandoned", "refused"):
        assert seen[f"chains_{name}"], f"no chain was {name}"
    assert seen["stopped"], "no request ended with its chain"
    assert seen["chains_opened"] == sum(
        seen[f"chains_{how}"] for how in ("done", "late", "idle", "abandoned", "refused")
    ), "each chain ends once"
