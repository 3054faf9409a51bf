"""The runner: takes batches from their first check to their two files, after a restart too.

Owns which batches are worked on, when their lines start, give way and come again, and the end at
the window's. Lines are answered by an `Answering`, results committed by the recorder. Started and
ended by the assembly.
"""

import asyncio
import logging
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

from slalom.batches.answering import Answering
from slalom.batches.desk import Desk
from slalom.batches.life import Life
from slalom.batches.objects import Batch, Status, StorageError
from slalom.batches.recorder import Recorder
from slalom.batches.work import Running, Work
from slalom.errors import RequestError

_log = logging.getLogger(__name__)

#: Batches worked on at a time; others wait for one to end.
_LOADED_MAX = 16
#: How often it is looked for room while lines wait or run, seconds.
_LOOK_EVERY_S = 0.05
#: How often windows, old files and a busy folder are looked after, seconds.
_TIDY_EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class LineCounts:
    """Lines of all batches that are worked on, by state."""

    #: To be started, or to be tried again later.
    queued: int
    running: int
    #: With a result on the disk since this process began: an answer, or an error.
    done: int
    failed: int
    #: Whether results wait for room on the disk.
    held: bool


class Runner:
    """Works on the batches of a desk.

    Args:
        desk: Where they lie.
        answering: Answers their lines.
    """

    def __init__(self, desk: Desk, answering: Answering) -> None:
        self._desk = desk
        self._answering = answering
        self._wake = asyncio.Event()
        self._changed = True
        self._recorder = Recorder(desk, self._wake.set)
        self._works: dict[str, Work] = {}
        self._lives: dict[str, Life] = {}
        self._life_tasks: dict[str, asyncio.Task[None]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._tidy_at_s = 0.0
        self._warned = False
        desk.on_change.append(self._on_change)

    def __repr__(self) -> str:
        return f"<Runner batches={len(self._works)} running={self.running}>"

    @property
    def running(self) -> int:
        """Lines under way."""
        return sum(len(work.running) for work in self._works.values())

    def line_counts(self) -> LineCounts:
        """How many lines there are in each state now."""
        works = self._works.values()
        return LineCounts(
            queued=sum(sum(map(len, work.queues.values())) + len(work.later) for work in works),
            running=self.running,
            done=self._recorder.done,
            failed=self._recorder.failed,
            held=bool(self._recorder.blocked),
        )

    def start(self) -> None:
        """Begin, with what an earlier process left."""
        self._tasks = [asyncio.ensure_future(self._run()), asyncio.ensure_future(self._record())]

    async def stop(self) -> None:
        """Give up the lines under way, which a later process begins anew; commit the answers."""
        lines = [run.task for work in self._works.values() for run in work.running.values()]
        await _cancel([*self._tasks, *self._life_tasks.values(), *lines])
        if self._tasks and self._desk.used:
            await self._recorder.commit()
        self._tasks = []

    async def close(self) -> None:
        """Stop, and let go of the folder."""
        await self.stop()
        await self._desk.close()

    def _on_change(self) -> None:
        self._changed = True
        self._wake.set()

    async def _record(self) -> None:
        await self._recorder.run()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            try:
                if self._desk.used:
                    await self._look(loop.time())
                self._warned = False
            except StorageError as problem:
                if not self._warned:
                    _log.warning("batches wait: %s", problem)
                self._warned = self._changed = True
            except Exception as problem:  # noqa: BLE001 - a bug must not stop batches for good
                _log.error("looking after batches failed (a bug)", exc_info=problem)
            busy = any(
                work.running or work.later or any(work.names()) for work in self._works.values()
            )
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY_S if busy else _TIDY_EVERY_S):
                    await self._wake.wait()

    async def _look(self, now_s: float) -> None:
        if now_s >= self._tidy_at_s:
            self._tidy_at_s = now_s + _TIDY_EVERY_S
            self._changed = True
            await self._tidy()
        if self._changed:
            self._changed = False
            await self._load()
        for work in self._works.values():
            if work.batch.expires_s <= self._desk.now_s():
                work.stop(Status.EXPIRED)
            work.release(now_s)
        self._pace()

    async def _tidy(self) -> None:
        """Delete what is too old."""
        now_s, keep_s = self._desk.now_s(), self._desk.params.keep_s
        await self._desk.ask(
            lambda stored: stored.files.delete_expired(now_s, stored.ledger.inputs())
        )
        await self._desk.ask(lambda stored: stored.ledger.forget(now_s - keep_s))

    async def _load(self) -> None:
        """Begin to work on batches, evenly over keys, and hear of those to be cancelled."""
        unfinished = await self._desk.ask(lambda stored: stored.ledger.unfinished())
        for batch in unfinished:
            work = self._works.get(batch.id)
            if work is not None and batch.status is Status.CANCELLING:
                work.stop(Status.CANCELLED)
        idle = [batch for batch in unfinished if batch.id not in self._works]
        loaded = Counter(work.batch.owner for work in self._works.values())
        while idle and len(self._works) < _LOADED_MAX:
            batch = min(idle, key=lambda one: loaded[one.owner])
            idle.remove(batch)
            loaded[batch.owner] += 1
            self._begin(batch)

    def _begin(self, batch: Batch) -> None:
        work = self._works[batch.id] = Work(batch)
        life = Life(self._desk, self._answering, self._recorder, work, self._wake.set)
        self._lives[batch.id] = life
        task = self._life_tasks[batch.id] = asyncio.ensure_future(life.run())
        task.add_done_callback(lambda _: self._over(batch.id, task))

    def _over(self, batch_id: str, task: "asyncio.Task[None]") -> None:
        """A batch has ended; one that a bug stopped stays as it is until the next start."""
        if task.cancelled():
            return
        if (problem := task.exception()) is not None:
            _log.error("batch %s stands still (a bug)", batch_id, exc_info=problem)
            return
        for held in (self._works, self._lives, self._life_tasks):
            held.pop(batch_id, None)
        self._on_change()

    def _pace(self) -> None:
        """Start as many lines as there is room for; let some give way where others wait."""
        ours: Counter[str] = Counter()
        names: dict[str, set[str]] = {}
        for work in self._works.values():
            for run in work.running.values():
                ours[self._model_of(run.name)] += 1
            for name in work.names():
                names.setdefault(self._model_of(name), set()).add(name)
        wanted = {model: ours[model] for model in {*ours, *names}}
        if not wanted:
            return
        for model, room in self._answering.rooms(wanted).items():
            if room < 0:
                self._give_way(model, -room)
            elif self._recorder.open and self._answering.accepting():
                for _ in range(room):
                    if not self._start_one(names.get(model, set())):
                        break

    def _model_of(self, name: str) -> str:
        try:
            return self._answering.model_of(name)
        except RequestError:  # it was served when the batch was checked: its lines will hear so
            return name

    def _start_one(self, names: set[str]) -> bool:
        """Start the next line of the key, then of the batch, that has the fewest under way."""
        waiting = [
            (work, name) for work in self._works.values() for name in work.names() if name in names
        ]
        if not waiting:
            return False
        of_owner: Counter[str] = Counter()
        for work in self._works.values():
            of_owner[work.batch.owner] += len(work.running)
        work, name = min(
            waiting, key=lambda one: (of_owner[one[0].batch.owner], len(one[0].running))
        )
        number = work.queues[name].popleft()
        task = asyncio.ensure_future(self._lives[work.batch.id].answer(number, name))
        run = work.running[number] = Running(number, name, task)
        task.add_done_callback(lambda _: self._line_over(work, run))
        return True

    def _line_over(self, work: Work, run: Running) -> None:
        """A line has left its place; one that gave it to others is the next to start."""
        work.running.pop(run.number, None)
        if run.task.cancelled() and run.yielding and not work.over.is_set():
            work.gave_way(run.number, run.name)
        self._wake.set()

    def _give_way(self, model: str, count: int) -> None:
        """Give up the lines that began last: they lose the least."""
        running = [
            (work, run)
            for work in self._works.values()
            for run in work.running.values()
            if self._model_of(run.name) == model
        ]
        for work, run in reversed(running):
            if count and not run.yielding and work.may_yield(run.number):
                run.yielding = True
                run.task.cancel()
                count -= 1


async def _cancel(tasks: list["asyncio.Task[None]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
