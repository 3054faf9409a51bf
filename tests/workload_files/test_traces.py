"""Traces are read in three formats, and what is wrong in one is said with file, line and remedy."""

import itertools
from pathlib import Path

import pytest

from slalom.errors import ConfigError
from slalom.units import MS, SECOND
from slalom.workload.traces import Format, TraceRow, read_trace, trace_lines

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:03.9799600,4808,10
2023-11-16 18:17:04.0319600,3180,8
2023-11-16 18:18:03.9799600,110,27
"""
MOONCAKE = """{"timestamp": 0, "input_length": 6755, "output_length": 500, "hash_ids": [1, 2]}
{"timestamp": 3000.5, "input_length": 7322, "output_length": 490, "hash_ids": []}
"""
OURS = """{"at_ms": 5.0, "prompt_tokens": 12, "output_tokens": 3, "task": "chat", "model": "m"}
{"at_ms": 1005, "prompt_tokens": 13, "output_tokens": 4}
"""


def a_file(folder: Path, text: str) -> Path:
    path = folder / "trace.txt"
    path.write_text(text)
    return path


def test_azure(tmp_path: Path) -> None:
    rows = read_trace(a_file(tmp_path, AZURE), "azure")
    assert [row.at_ns for row in rows] == [0, 52 * MS, 60 * SECOND]
    assert (rows[0].prompt_tokens, rows[0].output_tokens) == (4808, 10)


def test_mooncake(tmp_path: Path) -> None:
    rows = read_trace(a_file(tmp_path, MOONCAKE), "mooncake")
    assert rows == (TraceRow(0, 6755, 500), TraceRow(3_000_500_000, 7322, 490))


def test_ours_comes_back_as_it_was_written(tmp_path: Path) -> None:
    rows = read_trace(a_file(tmp_path, OURS), "slalom")
    assert rows[0] == TraceRow(0, 12, 3, "chat", "m")
    again = read_trace(a_file(tmp_path, "".join(trace_lines(rows))), "slalom")
    assert again == rows


def test_a_span_counts_from_its_beginning_and_a_rate_squeezes_it(tmp_path: Path) -> None:
    path = a_file(tmp_path, AZURE)
    assert [row.at_ns for row in read_trace(path, "azure", from_s=30)] == [30 * SECOND]
    assert len(read_trace(path, "azure", to_s=60)) == 2
    assert read_trace(path, "azure", rate_scale=2)[-1].at_ns == 30 * SECOND


@pytest.mark.parametrize(
    ("kind", "text", "line", "what", "remedy"),
    [
        ("azure", AZURE + "2023-11-16 18:1", 5, "1 cells instead of 3", "truncated"),
        ("azure", AZURE + "2023-11-16 18:17:03.1,1,1\n", 5, "before the line above", "sort it"),
        ("azure", AZURE.replace("3180", "-1"), 3, "ContextTokens is -1", "repair the line"),
        ("azure", AZURE.replace("3180", "many"), 3, "'many', not a whole number", "truncated"),
        ("azure", AZURE.replace("2023-11-16 18:17:04", "soon"), 3, "TIMESTAMP is", "write it as"),
        ("azure", "a,b\n1,2\n", 1, "not the head", "format: azure"),
        ("mooncake", MOONCAKE + '{"timestamp": 9', 3, "not a JSON object", "truncated"),
        ("mooncake", OURS, 1, "lacks timestamp", "format named right"),
        ("slalom", OURS.replace("1005", "-5"), 2, "at_ms is -5", "0 or more"),
        ("slalom", OURS.replace("1005", "1e300"), 2, "at_ms is", "0 or more"),
        ("slalom", OURS.replace("1005", "2"), 2, "comes 0.003 s before", "sort it"),
    ],
)
def test_what_is_wrong_names_file_line_and_remedy(
    tmp_path: Path, kind: Format, text: str, line: int, what: str, remedy: str
) -> None:
    path = a_file(tmp_path, text)
    with pytest.raises(ConfigError) as wrong:
        read_trace(path, kind)
    message = str(wrong.value)
    assert message.startswith(f"{path}:{line}: ")
    assert what in message
    assert remedy in message


def test_no_file_and_an_empty_span_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.csv: cannot be read"):
        read_trace(tmp_path / "absent.csv", "azure")
    with pytest.raises(ConfigError, match="no request between"):
        read_trace(a_file(tmp_path, AZURE), "azure", from_s=1000)
    packed = tmp_path / "packed.csv.gz"
    packed.write_bytes(b"\x1f\x8b\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_trace(packed, "azure")


def test_any_line_cut_short_is_told(tmp_path: Path) -> None:
    """Wherever a trace of ours ends within a line, the line is named."""
    last = OURS.splitlines()[1]
    for length in itertools.chain(range(1, len(last) - 1, 7), [len(last) - 1]):
        path = a_file(tmp_path, OURS.splitlines(keepends=True)[0] + last[:length])
        with pytest.raises(ConfigError, match=r"trace\.txt:2: "):
            read_trace(path, "slalom")
