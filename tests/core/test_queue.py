"""The queue against a sorted list, with removals anywhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slalom.core.queue import SortedQueue


class Entry:
    """What can be queued."""

    def __init__(self, key: int) -> None:
        self.key = (key, 0, "")
        self.in_queue = False


@given(st.lists(st.tuples(st.sampled_from(["push", "push", "pop", "remove"]), st.integers(0, 99))))
def test_it_behaves_like_a_sorted_list(steps: list[tuple[str, int]]) -> None:
    queue: SortedQueue[Entry] = SortedQueue()
    model: list[Entry] = []
    for step, number in steps:
        if step == "push" and number not in [entry.key[0] for entry in model]:
            model.append(entry := Entry(number))
            queue.push(entry)
        elif step == "pop" and model:
            model.sort(key=lambda entry: entry.key)
            queue.remove(model.pop(0))
        elif step == "remove" and model:
            queue.remove(model.pop(number % len(model)))
        model.sort(key=lambda entry: entry.key)
        head = queue.peek()
        assert len(queue) == len(model)
        assert head is (model[0] if model else None)
        assert [entry.key for entry in queue.entries()] == [e.key for e in model]


def test_what_was_taken_from_the_front_is_cleared_away() -> None:
    queue: SortedQueue[Entry] = SortedQueue()
    entries = [Entry(number) for number in range(1_000)]
    for entry in entries:
        queue.push(entry)
    for entry in entries[:-1]:
        queue.remove(entry)
    assert queue.first(5) == entries[-1:]
    assert len(queue._items) < 200
    assert repr(queue) == "SortedQueue(1)"


def test_the_first_come_in_order_and_late_entries_find_their_place() -> None:
    queue: SortedQueue[Entry] = SortedQueue()
    for number in (5, 1, 9, 3):
        queue.push(Entry(number))
    queue.remove(queue.first(1)[0])
    queue.push(Entry(0))
    assert [entry.key[0] for entry in queue.first(3)] == [0, 3, 5]


def test_only_what_is_queued_can_be_taken_out() -> None:
    queue: SortedQueue[Entry] = SortedQueue()
    queue.push(Entry(1))
    with pytest.raises(IndexError, match="not queued"):
        queue.remove(Entry(0))
