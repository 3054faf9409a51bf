"""The story of one request, told from the journal: why it was late, refused or lost.

Owns finding the request and turning its entries into steps, waits and verdicts. It decides
nothing and needs no server. Called by `slalom explain`.
"""

import difflib
import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from slalom.core.actions import Dispatch, EndRequest, ModelChosen
from slalom.core.events import RequestArrived
from slalom.core.journal import Entry
from slalom.core.request import Request
from slalom.journal.codec import Header, JournalError, decode_entry
from slalom.journal.files import journal_files, read_file
from slalom.journal.occupancy import Occupancy
from slalom.journal.steps import Step, Waits, steps_of
from slalom.journal.what_if import Crowd, Verdict, needed

LATEST = "latest"
#: Ids kept for hints when the wanted one is unknown.
_IDS_MAX = 5_000
#: Changes of the load that are kept of one request's life.
_LOADS_MAX = 10_000

_ARRIVED, _ENDED = b'"RequestArrived"', b'"EndRequest"'
#: Lines that change what is loaded, running or waiting.
_TELLING = re.compile(
    rb'"(RequestArrived|EndRequest|ModelChosen|Dispatch|ConfigChanged|Attempt\w+|Replica\w+'
    rb'|\w+Replica)"'
).search


@dataclass(slots=True)
class Story:
    """What happened to one request. Times of steps count from its scheduled arrival."""

    request: Request
    #: Wall-clock time of the arrival, ns since 1970; 0 in a twin's journal.
    arrived_unix_ns: int
    steps: list[Step] = field(default_factory=list)
    waits: Waits = field(default_factory=Waits)
    #: None while it has not ended (or the journal was cut before).
    end: EndRequest | None = None
    #: Who began to run while it waited.
    crowd: Crowd = field(default_factory=Crowd)
    #: Requests for its model that came after it and have not begun.
    later: set[str] = field(default_factory=set)
    #: (time, places taken, places, waiting) of its model, as often as that changed.
    load: list[tuple[int, int, int, int]] = field(default_factory=list)

    def verdicts(self) -> list[Verdict]:
        """Each objective with what was measured; empty before the end."""
        end, sla = self.end, self.request.sla
        if end is None:
            return []
        first_ns = end.first_token_ns - end.arrived_ns if end.first_token_ns >= 0 else -1
        done = end.outcome == "done"
        e2e_ns = end.ended_ns - end.arrived_ns if done else -1
        gaps = end.output_tokens - 1
        tpot_ns = (e2e_ns - first_ns) // gaps if done and first_ns >= 0 and gaps > 0 else -1
        link = self.request.link
        if link is not None and link.has_deadline:
            return [Verdict("chain", link.deadline_ns - end.arrived_ns, e2e_ns)]
        found = []
        if sla.ttft_ns is not None and not (done and first_ns < 0):
            found.append(Verdict("ttft", sla.ttft_ns, first_ns))
        if sla.tpot_ns is not None and (tpot_ns >= 0 or not done):
            found.append(Verdict("tpot", sla.tpot_ns, tpot_ns))
        if sla.e2e_ns is not None:
            found.append(Verdict("e2e", sla.e2e_ns, e2e_ns))
        if done and first_ns < 0 and sla.e2e_ns is None and sla.ttft_ns is not None:
            limit_ns = sla.ttft_ns + (sla.tpot_ns or 0) * max(gaps, 0)
            found.append(Verdict("ttft + tpot, not streamed", limit_ns, e2e_ns))
        return found

    def needed(self) -> list[str]:
        """What would have had to be different, in sentences."""
        return needed(self.request, self.end, self.verdicts(), self.waits, self.crowd)


def explain(
    directory: Path,
    request_id: str,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> Story:
    """Tell the story of a request, the last of that id.

    Args:
        directory: The journal's folder.
        request_id: Its id, the beginning of it, or ``latest`` for the last that ended.
        on_progress: Told (files read, files in all).

    Raises:
        JournalError: There is no journal, it cannot be read, or the id is not in it; then the
            message names the nearest ids.
    """
    files = journal_files(directory)
    if not files:
        raise JournalError(
            f"there is no journal in {directory}: start `slalom serve`, or name the directory "
            "with --journal"
        )
    wanted = request_id
    if request_id == LATEST or not any(_arrivals(path, request_id) for path in files):
        wanted = _latest(files) if request_id == LATEST else _completed(files, request_id)
    for run in reversed(list(runs_of(files))):
        story = _tell(run, wanted, on_progress)
        if story is not None:
            return story
    raise JournalError(f"the journal was rotated while it was read; {wanted} is gone from it")


def runs_of(files: list[Path]) -> Iterator[list[Path]]:
    """Files of one life of a server together: their names share the start time."""
    run: list[Path] = []
    for path in files:
        if run and path.name.rpartition("-")[0] != run[-1].name.rpartition("-")[0]:
            yield run
            run = []
        run.append(path)
    if run:
        yield run


def _arrivals(path: Path, request_id: str) -> int:
    """How often a request of this id arrived in a file."""
    needle = msgspec.json.encode(request_id)
    found = entries_with(path, lambda line: needle in line and _ARRIVED in line)
    return sum(_arrival(entry, request_id) is not None for entry in found)


def _latest(files: list[Path]) -> str:
    """The id of the request that ended last."""
    for path in reversed(files):
        latest = ""
        for entry in entries_with(path, lambda line: _ENDED in line):
            ended = [a.request_id for a in entry.actions if isinstance(a, EndRequest)]
            latest = ended[-1] if ended else latest
        if latest:
            return latest
    raise JournalError("no request has ended yet in this journal: send one first")


def _completed(files: list[Path], beginning: str) -> str:
    """The one id that begins like this.

    Raises:
        JournalError: None does, or several; the message names the nearest.
    """
    ids: deque[str] = deque(maxlen=_IDS_MAX)
    for path in files:
        for entry in entries_with(path, lambda line: _ARRIVED in line):
            ids.extend(e.request.id for e in entry.events if isinstance(e, RequestArrived))
    begins = list(dict.fromkeys(found for found in ids if found.startswith(beginning)))
    if len(begins) == 1:
        return begins[0]
    near = begins[-3:] or difflib.get_close_matches(beginning, ids, n=3) or list(ids)[-3:]
    hint = f"nearest: {', '.join(dict.fromkeys(near))}" if near else "it holds no request at all"
    raise JournalError(f"no request {beginning!r} in the journal; {hint}; or write {LATEST!r}")


def entries_with(path: Path, wanted: Callable[[bytes], bool]) -> Iterator[Entry]:
    """Entries of a file whose line is wanted; the others are not decoded, which is slow."""
    try:
        with path.open("rb") as lines:
            next(lines, b"")
            for number, line in enumerate(lines, start=2):
                if line.endswith(b"\n") and wanted(line):
                    yield decode_entry(line, f"{path.name}:{number}")
    except OSError as error:
        raise JournalError(f"cannot read {path}: {error.strerror}") from error


def _tell(
    run: list[Path], wanted: str, on_progress: Callable[[int, int], None] | None
) -> Story | None:
    """The story of the last request of this id in one run of a server."""
    lives = sum(_arrivals(path, wanted) for path in run)
    if not lives:
        return None
    story: Story | None = None
    header, _ = read_file(run[0])
    occupancy = Occupancy({model.id: model for model in header.models})
    needle = msgspec.json.encode(wanted)
    for number, path in enumerate(run, start=1):
        for entry in entries_with(path, lambda line: needle in line or _TELLING(line) is not None):
            arrived = _arrival(entry, wanted)
            if arrived is not None and (story is None or story.end is not None):
                story = _begin(header, arrived)
                lives -= 1
            ended = _follow(story, entry, occupancy)
            if ended and not lives:
                return story
        if on_progress is not None:
            on_progress(number, len(run))
    return story


def _arrival(entry: Entry, wanted: str) -> Request | None:
    for event in entry.events:
        if isinstance(event, RequestArrived) and event.request.id == wanted:
            return event.request
    return None


def _begin(header: Header, request: Request) -> Story:
    epoch_ns = header.epoch_unix_ns
    return Story(request, epoch_ns + request.arrived_ns if epoch_ns else 0)


def _follow(story: Story | None, entry: Entry, occupancy: Occupancy) -> bool:
    """Add one entry to the story, if one is open; whether it ended with it."""
    if story is None or story.end is not None:
        occupancy.events(entry)
        occupancy.actions(entry)
        return False
    for action in entry.actions:
        if isinstance(action, ModelChosen) and action.request_id == story.request.id:
            story.request = replace(story.request, model=action.model)
    waited = story.waits.since_ns is not None
    story.steps += steps_of(story.request, entry, occupancy, story.waits)
    _look_around(story, entry, occupancy, waited=waited)
    own = story.request.id
    ends = [a for a in entry.actions if isinstance(a, EndRequest) and a.request_id == own]
    story.end = ends[0] if ends else None
    if story.end is not None and story.end.demoted_ns >= 0:
        _tell_demotion(story, story.end.demoted_ns)
    return bool(ends)


def _look_around(story: Story, entry: Entry, occupancy: Occupancy, *, waited: bool) -> None:
    """Note who else came and began for the same model, and how full it was."""
    own, model = story.request.id, story.request.model
    for event in entry.events:
        other = event.request if isinstance(event, RequestArrived) else story.request
        if other.id != own and other.model == model and len(story.later) < _IDS_MAX:
            story.later.add(other.id)
    for action in entry.actions:
        if not isinstance(action, Dispatch) or action.request_id == own or not waited:
            continue
        if occupancy.model_of(action.replica_id) == model:
            story.crowd.begun += 1
            story.crowd.overtook += action.request_id in story.later
            story.later.discard(action.request_id)
    load = (*occupancy.taken(model), occupancy.waiting(model))
    if len(story.load) < _LOADS_MAX and (not story.load or story.load[-1][1:] != load):
        story.load.append((entry.now_ns, *load))


def _tell_demotion(story: Story, demoted_ns: int) -> None:
    """Put in its place a step that only the record at the end tells of."""
    at_ns = demoted_ns - story.request.arrived_ns
    seen = [load for load in story.load if load[0] <= demoted_ns]
    text = "put behind the requests that could still be on time"
    if seen:
        _, taken, places, waiting = seen[-1]
        text += f": {taken} of {places} places taken, {waiting} waiting"
    index = sum(step.at_ns <= at_ns and step.kind != "end" for step in story.steps)
    story.steps.insert(index, Step(at_ns, "demoted", text))
