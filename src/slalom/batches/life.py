"""One batch's life: checked, answered line by line, and ended with its files.

Owns the order of these steps, what of them is written down first, and which answers are tried
again. A life that breaks off goes on from what was written down. Called by the runner.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

import msgspec

from slalom.batches.answering import Answer, Answering, LineCall
from slalom.batches.desk import Desk, Stored
from slalom.batches.lines import Lines, LineText, Rules, scan
from slalom.batches.objects import Batch, LineFault, Result, Status, StorageError
from slalom.batches.outcome import answered, unanswered
from slalom.batches.recorder import Recorder
from slalom.batches.work import Work

_log = logging.getLogger(__name__)

#: Tries of a line whose engine fails. What is only too busy is tried until the window ends.
_TRIES_MAX = 3
_BUSY = frozenset((429, 503))
#: Longest time between two tries, and time before a broken-off life goes on, seconds.
_PAUSE_MAX_S, _AGAIN_S = 60.0, 5.0
#: Lines that a batch never came to are written so many at a time.
_REST_AT_ONCE = 500


class Life:
    """Moves one batch.

    Args:
        desk: Where it lies.
        answering: Answers its lines.
        recorder: Commits their results.
        work: Its state in memory.
        wake: Called when lines may be started.
    """

    def __init__(
        self,
        desk: Desk,
        answering: Answering,
        recorder: Recorder,
        work: Work,
        wake: Callable[[], None],
    ) -> None:
        self._desk = desk
        self._answering = answering
        self._recorder = recorder
        self._work = work
        self._wake = wake
        self._id = work.batch.id
        self._gone = False

    async def run(self) -> None:
        """From where it stands to its end."""
        try:
            await self._run()
        finally:
            self._gone = True

    async def _run(self) -> None:
        while True:
            try:
                if self._work.lines is None and not await self._check():
                    return
                self._wake()
                await self._work.over.wait()
                await self._finish()
                return
            except StorageError as problem:
                _log.warning("batch %s waits: %s", self._id, problem)
                await asyncio.sleep(_AGAIN_S)

    async def answer(self, number: int, name: str) -> None:
        """One line: its result goes to the recorder, or it comes again later."""
        try:
            await self._answer(number, name)
        except Exception as problem:  # noqa: BLE001 - a line must not get lost, whatever happens
            _log.error("batch %s: a line broke off (%s)", self._id, type(problem).__name__)
            self._later(number, name, _PAUSE_MAX_S)

    def _later(self, number: int, name: str, pause_s: float) -> None:
        self._work.come_again(number, name, asyncio.get_running_loop().time() + pause_s)

    async def _answer(self, number: int, name: str) -> None:
        work = self._work
        assert work.lines is not None  # noqa: S101 - lines start behind the check
        text = await asyncio.to_thread(work.lines.read, number)
        call = LineCall(
            owner=work.batch.owner,
            endpoint=work.batch.endpoint,
            body=text.body,
            left_s=max(1.0, work.batch.expires_s - self._desk.now_s()),
        )
        answer = await self._answering.answer(call)
        if not work.over.is_set() and self._again(number, answer):
            pause_s = min(max(answer.retry_after_s, 0.5 * 2 ** work.tries[number]), _PAUSE_MAX_S)
            self._later(number, name, pause_s)
            return
        self._recorder.put(answered(self._id, number, text.custom_id, answer), work.committed)

    def _again(self, number: int, answer: Answer) -> bool:
        if not answer.retryable:
            return False
        if answer.status in _BUSY:
            self._work.tries[number] = min(self._work.tries[number] + 1, 8)
            return True
        self._work.tries[number] += 1
        return self._work.tries[number] < _TRIES_MAX

    async def _check(self) -> bool:
        """Look through the file; whether there is anything to answer."""
        batch, work = self._work.batch, self._work
        new = batch.status is Status.VALIDATING
        rules = Rules(
            endpoint=batch.endpoint,
            lines_max=self._desk.params.lines_max,
            line_bytes_max=self._desk.params.line_bytes_max,
            # What was served once is asked for line by line if it is not any more.
            check_model=self._answering.model_of if new else lambda _: None,
        )
        path = self._desk.content(batch.input_file)
        try:
            lines, faults = await asyncio.to_thread(scan, path, rules, lambda: self._gone)
        except OSError:
            lines = Lines(path)
            faults = [LineFault(code="file_lost", message="The input file cannot be read.")]
        if faults and new:
            await self._fail(faults)
            return False
        recorded = await self._desk.ask(lambda stored: stored.ledger.recorded(self._id))
        now_s = self._desk.now_s()

        def begun(batch: Batch) -> Batch:
            if batch.status is not Status.VALIDATING:
                return batch
            return msgspec.structs.replace(
                batch,
                status=Status.IN_PROGRESS,
                in_progress_s=now_s,
                total=lines.count,
                model=next(iter(lines.numbers)) if len(lines.numbers) == 1 else "",
            )

        self._work.batch = await self._change(begun)
        work.fill(lines, recorded)
        if self._work.batch.status is Status.CANCELLING:
            work.stop(Status.CANCELLED)
        return True

    async def _fail(self, faults: Sequence[LineFault]) -> None:
        await self._change(lambda batch: msgspec.structs.replace(batch, faults=tuple(faults)))
        await self._desk.ask(lambda stored: stored.ledger.end(self._id, Status.FAILED))
        _log.info("batch %s cannot begin: %d faults", self._id, len(faults))

    async def _finish(self) -> None:
        """Let what runs end, write down what was never answered, and close the files."""
        work = self._work
        tasks = [run.task for run in work.running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._recorder.flushed()
        status = work.stopping or Status.COMPLETED
        if work.left:
            await self._write_rest(status)
        else:
            status = Status.COMPLETED
        now_s = self._desk.now_s()

        def closing(batch: Batch) -> Batch:
            if status is not Status.COMPLETED:
                return batch
            return msgspec.structs.replace(batch, status=Status.FINALIZING, finalizing_s=now_s)

        await self._change(closing)
        ended = await self._desk.ask(lambda stored: stored.ledger.end(self._id, status))
        _log.info(
            "batch %s %s: %d lines, %d completed, %d failed",
            self._id,
            ended.status.value,
            ended.total,
            ended.completed,
            ended.failed,
        )

    async def _write_rest(self, status: Status) -> None:
        """An error line for each line that has no result."""
        work = self._work
        assert work.lines is not None  # noqa: S101 - checked before anything could be stopped
        lines = work.lines
        recorded = await self._desk.ask(lambda stored: stored.ledger.recorded(self._id))
        rest = [
            number
            for numbers in lines.numbers.values()
            for number in numbers
            if number not in recorded
        ]
        for start in range(0, len(rest), _REST_AT_ONCE):
            texts = await asyncio.to_thread(_read, lines, rest[start : start + _REST_AT_ONCE])
            results = [unanswered(self._id, text.number, text.custom_id, status) for text in texts]
            await self._desk.ask(_recording(results))

    async def _change(self, change: Callable[[Batch], Batch]) -> Batch:
        return await self._desk.ask(lambda stored: stored.ledger.change(self._id, change))


def _read(lines: Lines, numbers: Sequence[int]) -> list[LineText]:
    return [lines.read(number) for number in numbers]


def _recording(results: Sequence[Result]) -> Callable[[Stored], None]:
    """Bound here, so that a loop's next round does not change what is recorded."""
    return lambda stored: stored.ledger.record(results)
