"""The queue against a sorted list, with removals anywhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slalom.core.queue import LazyQueue


class Entry:
    """What can be queued."""

    def __init__(self, key: int) -> None:
        self.key = (key, 0, "")
        self.in_queue = False


@given(st.lists(st.tuples(st.sampled_from(["push", "push", "pop", "remove"]), st.integers(0, 99))))
def test_it_behaves_like_a_sorted_list(steps: list[tuple[str, int]]) -> None:
    queue: LazyQueue[Entry] = LazyQueue()
    model: list[Entry] = []
    for step, number in steps:
        if step == "push" and number not in [entry.key[0] for entry in model]:
            model.append(entry := Entry(number))
            queue.push(entry.key, entry)
        elif step == "pop" and model:
            model.sort(key=lambda entry: entry.key)
            assert queue.pop() is model.pop(0)
        elif step == "remove" and model:
            queue.remove(model.pop(number % len(model)))
        model.sort(key=lambda entry: entry.key)
        head = queue.peek()
        assert len(queue) == len(model)
        assert (head[1] if head else None) is (model[0] if model else None)
        assert sorted(entry.key for entry in queue.entries()) == [e.key for e in model]


def test_tombstones_are_cleared_away() -> None:
    queue: LazyQueue[Entry] = LazyQueue()
    entries = [Entry(number) for number in range(1_000)]
    for entry in entries:
        queue.push(entry.key, entry)
    for entry in entries[1:]:
        queue.remove(entry)
    assert len(queue) == 1
    assert len(queue._heap) < 200
    assert "live=1" in repr(queue)


def test_nothing_comes_out_of_an_empty_queue() -> None:
    with pytest.raises(IndexError, match="empty"):
        LazyQueue[Entry]().pop()
