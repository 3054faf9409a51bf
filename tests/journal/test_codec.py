"""Journal lines: what goes in comes out, and nothing else is taken for a journal."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slalom.core.actions import Action, EndRequest, Outcome, SetTimer
from slalom.core.events import Event, FailureKind, ReplicaFailed, RequestArrived
from slalom.core.journal import Entry
from slalom.core.params import SchedulerParams
from slalom.core.policy import Decision, Policies, Verdict
from slalom.core.request import DeviceSpec, ModelSpec
from slalom.core.scheduler import Scheduler
from slalom.journal.codec import (
    JournalError,
    decode_entry,
    decode_header,
    encode_entry,
    encode_header,
    header_for,
)
from slalom.policies.ordering import Edf
from slalom.policies.registry import POLICIES, policies

st.register_type_strategy(float, st.floats(allow_nan=False, allow_infinity=False))
EVENTS = st.one_of([st.from_type(kind) for kind in get_args(Event) if kind is not RequestArrived])
ACTIONS = st.one_of([st.from_type(kind) for kind in get_args(Action)])


def scheduler(chosen: Policies | None = None) -> Scheduler:
    return Scheduler(
        [ModelSpec("a", "host", 60, 2, pinned=True)],
        [DeviceSpec("host", 100, window=3)],
        chosen or policies(ordering="fcfs", admission="drop-late"),
        SchedulerParams(queue_max=7),
    )


@given(
    st.integers(min_value=0, max_value=2**62),
    st.lists(EVENTS, max_size=4),
    st.lists(ACTIONS, max_size=4),
)
def test_every_entry_comes_back_as_it_was(
    now_ns: int, events: list[Event], actions: list[Action]
) -> None:
    entry = Entry(now_ns, tuple(events), tuple(actions))
    line = encode_entry(entry)
    assert line.count(b"\n") == 1
    assert decode_entry(line, "here") == entry


def test_types_survive_not_only_values() -> None:
    entry = Entry(1, (ReplicaFailed("a#0", 1, FailureKind.STALLED, "x"),), (SetTimer(5),))
    (event,) = decode_entry(encode_entry(entry), "here").events
    assert isinstance(event, ReplicaFailed)
    assert event.kind is FailureKind.STALLED


def test_a_header_rebuilds_the_scheduler_it_came_from() -> None:
    original = scheduler(policies(ordering="edf"))
    header = decode_header(encode_header(header_for(original, epoch_unix_ns=9)), "here")
    rebuilt = header.scheduler()
    assert header.epoch_unix_ns == 9
    assert rebuilt.params == original.params
    assert rebuilt.policies == original.policies
    assert [m.spec for m in rebuilt.state.models.values()] == [
        m.spec for m in original.state.models.values()
    ]


def test_a_policy_that_is_not_registered_cannot_be_journaled() -> None:
    class Mine(Edf):
        pass

    known = policies()
    odd = Policies(known.admission, Mine(), known.residency, known.routing)
    with pytest.raises(JournalError, match="Mine"):
        header_for(scheduler(odd))


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"[1, [], []",
        b'[1, [["Nope", {}]], []]',
        b'[1, [["TimerFired", 3]], []]',
        b'["x", [], [["SetTimer", {}]]]',
        b'[1, [["Progress", {"request_id": 5, "attempt": 1, "output_tokens": 1}]], []]',
        b"\xff\xfe",
    ],
)
def test_what_is_no_entry_is_an_error_that_names_the_place(line: bytes) -> None:
    with pytest.raises(JournalError, match=r"file\.jsonl:7"):
        decode_entry(line, "file.jsonl:7")


@pytest.mark.parametrize("line", [b"", b"x", b"{}", b'{"slalom_journal": 4}'])
def test_what_is_no_header_is_an_error(line: bytes) -> None:
    with pytest.raises(JournalError, match="not the header"):
        decode_header(line, "here")


def test_another_format_version_is_refused() -> None:
    line = encode_header(header_for(scheduler())).replace(b'"version":1', b'"version":99')
    with pytest.raises(JournalError, match="journal format 99"):
        decode_header(line, "here")


def test_no_text_field_of_an_action_is_free_form_but_the_detail() -> None:
    """A prompt has no field to hide in: strings are ids, enums, names, and one detail."""
    strings = {name for name, kind in EndRequest.__annotations__.items() if kind in {str, "str"}}
    ids = {"request_id", "model", "task", "key", "replica_id", "chain", "reason", "detail"}
    assert strings == ids
    assert Outcome("done")


@pytest.mark.parametrize(
    ("slot", "kind"), [(slot, kind) for slot, kinds in POLICIES.items() for kind in kinds]
)
def test_every_policy_comes_back_from_a_header(slot: str, kind: str) -> None:
    chosen = policies(**{slot: kind})
    line = encode_header(header_for(scheduler(chosen)))
    assert decode_header(line, "here").scheduler().policies == chosen


@dataclass(frozen=True)
class Nested:
    """An admission policy with options that JSON writes otherwise."""

    floors: Mapping[str, float] = field(default_factory=dict)
    names: tuple[str, ...] = ()

    def decide(self, request: object, model: object, now_ns: int) -> Decision:
        return Decision(Verdict.ADMIT)


def test_options_keep_their_types(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {slot: dict(kinds) for slot, kinds in POLICIES.items()}
    rows["admission"]["nested"] = Nested
    for module in ("slalom.policies.registry", "slalom.journal.codec"):
        monkeypatch.setattr(f"{module}.POLICIES", rows)
    chosen = replace(policies(), admission=Nested({"chat": 0.5}, ("a", "b")))
    line = encode_header(header_for(scheduler(chosen)))
    assert decode_header(line, "here").scheduler().policies == chosen
