"""The outside checker's rules for which model serves a request, and for what counts as good.

Owns the rules alone; what is seen stands in `checker_books`. Called by `checker`.
"""

from dataclasses import replace

from slalom.core.actions import AnswerKept, EndRequest, ModelChosen, Outcome
from slalom.core.request import Alternatives, Choice, Request
from slalom.testing.checker_books import Books, SeenRequest
from slalom.testing.checker_sleep import Require


def judge_choice(
    action: ModelChosen | AnswerKept, books: Books, now_ns: int, require: Require
) -> None:
    """Who serves a request is decided when it arrives, and once more where an answer is doubted."""
    if isinstance(action, AnswerKept):
        _judge_kept(action, books, now_ns, require)
    else:
        _judge_chosen(action, books, now_ns, require)


def judge_doubts(books: Books, require: Require) -> None:
    """What becomes of a doubted answer is told in the same entry."""
    for request in books.requests.values():
        require(not request.moves, "who takes over is told at once", request)
    for attempt in books.attempts.values():
        told = attempt.aborted or not attempt.doubted
        require(told, "what becomes of a doubted answer is told at once", attempt)


def _judge_chosen(action: ModelChosen, books: Books, now_ns: int, require: Require) -> None:
    """One of the request's models serves it, decided when it arrives, and again if that one fails.

    Whether the rule was kept cannot be seen from outside: nobody is told what drains.
    """
    seen = books.requests.get(action.request_id)
    require(seen is not None, "choose only for what lives", action)
    assert seen is not None
    how = seen.request.alternatives
    require(how is not None and action.model in how.models, "one of its models", action)
    assert how is not None
    if seen.moves:
        _judge_move(action, seen, how, require)
        return
    if seen.chosen:
        before = seen.request.model
        failed = books.load_failed_ns.get(before) == now_ns
        require(failed and seen.waits, "handed over when its model fails to load", action)
        require(action.model not in seen.failed_models, "nobody is sent round and round", action)
        seen.failed_models.add(before)
        seen.waits_since_ns = now_ns
    else:
        at_once = seen.waits_since_ns == now_ns and not seen.attempts
        require(at_once, "chosen when it arrives", action)
    better = how.models[: how.models.index(action.model)]
    named = tuple(name for name, _ in action.passed)
    require(named == better, "every model before it is accounted for", action)
    seen.request = replace(seen.request, model=action.model)
    seen.chosen = True


def _judge_move(
    action: ModelChosen, seen: SeenRequest, how: Alternatives, require: Require
) -> None:
    """Only the last model takes over, only by the rule that says so, and the reason is told."""
    require(how.choice is Choice.CONFIDENT, "no other rule lets another take over", action)
    last = action.model == how.models[-1] != seen.request.model
    require(last, "the last model takes over", action)
    require(action.passed == ((seen.request.model, seen.moves),), "for that reason", action)
    seen.request = replace(seen.request, model=action.model)
    seen.moves = ""


def _judge_kept(action: AnswerKept, books: Books, now_ns: int, require: Require) -> None:
    """Only an answer that was doubted now is kept."""
    fence = (action.request_id, action.attempt)
    attempt, seen = books.attempts.get(fence), books.requests.get(action.request_id)
    require(attempt is not None and bool(attempt.doubted), "keep only what is doubted", action)
    require(seen is not None and seen.current == fence, "keep only what lives", action)
    assert attempt is not None
    assert seen is not None
    require(not attempt.aborted, "keep only what runs on", action)
    attempt.doubted = ""
    if seen.request.streamed:
        seen.first_token_ns = now_ns


def judge_good(action: EndRequest, request: Request, require: Require) -> None:
    """Good is what met every objective."""
    sla, total_ns = request.sla, action.ended_ns - request.arrived_ns
    good = action.outcome is Outcome.DONE
    good = good and (sla.e2e_ns is None or total_ns <= sla.e2e_ns)
    if (link := request.link) is not None and link.deadline_ns >= 0:  # one target for them all
        good = action.outcome is Outcome.DONE and action.ended_ns <= link.deadline_ns
        require(action.good == good, "good means within the chain's time", action)
    elif good and action.first_token_ns >= 0:
        first_ns = action.first_token_ns - request.arrived_ns
        rest_ns, gaps = total_ns - first_ns, action.output_tokens - 1
        good = sla.ttft_ns is None or first_ns <= sla.ttft_ns
        if sla.tpot_ns is not None and gaps > 0:
            good = good and rest_ns <= sla.tpot_ns * gaps
        require(action.good == good, "good means every objective", (action, sla))
    elif not good:
        require(not action.good, "good means done in time", (action, sla))
