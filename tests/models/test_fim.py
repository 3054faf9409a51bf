"""How fill-in-the-middle prompts are made, family by family, and what texts cannot say in them."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slalom.models.fim import FimFile, FimTemplate, FimText, Guard, fim_prompt
from slalom.models.fim_families import BY_NAME, FAMILIES, of_name, of_vocabulary
from slalom.models.fim_tokenizer import of_folder, of_gguf

TEMPLATES = sorted(BY_NAME)
ALONE = FimText("def f(", "\n    return 1\n")
TOGETHER = FimText(
    "def f(", "\n", "b.py", (FimFile("a.py", "A = 1\n"), FimFile("", "B = 2")), "shop"
)


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("qwen", "<|fim_prefix|>{}<|fim_suffix|>{}<|fim_middle|>"),
        ("codegemma", "<|fim_prefix|>{}<|fim_suffix|>{}<|fim_middle|>"),
        ("granite", "<|fim_prefix|>{}<|fim_suffix|>{}<|fim_middle|>"),
        ("granite-code", "<fim_prefix>{}<fim_suffix>{}<fim_middle>"),
        ("starcoder", "<fim_prefix>{}<fim_suffix>{}<fim_middle>"),
        ("starcoder2", "<fim_prefix>{}<fim_suffix>{}<fim_middle>"),
        ("santacoder", "<fim-prefix>{}<fim-suffix>{}<fim-middle>"),
        ("deepseek", "<｜fim▁begin｜>{}<｜fim▁hole｜>{}<｜fim▁end｜>"),  # noqa: RUF001 - as spelled
        ("codellama", "▁<PRE>{}▁<SUF>{}▁<MID>"),
        ("codestral", "[SUFFIX]{1}[PREFIX]{0}"),
    ],
)
def test_a_file_alone(family: str, expected: str) -> None:
    assert fim_prompt(BY_NAME[family], ALONE) == expected.format(ALONE.before, ALONE.after)
    assert BY_NAME[family].render(ALONE.before, ALONE.after) == expected.format(
        ALONE.before, ALONE.after
    )


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        (
            "qwen",
            (
                "<|repo_name|>shop\n<|file_sep|>a.py\nA = 1\n<|file_sep|>\nB = 2\n"
                "<|file_sep|>b.py\n<|fim_prefix|>def f(<|fim_suffix|>\n<|fim_middle|>"
            ),
        ),
        (
            "starcoder2",
            (
                "<repo_name>shop<file_sep>a.py\nA = 1\n<file_sep>\nB = 2<file_sep>"
                "<fim_prefix>b.py\ndef f(<fim_suffix>\n<fim_middle>"
            ),
        ),
        (
            "deepseek",
            (
                "<｜fim▁begin｜>#a.py\nA = 1\n#\nB = 2\n#b.py\ndef f("  # noqa: RUF001 - as spelled
                "<｜fim▁hole｜>\n<｜fim▁end｜>"  # noqa: RUF001 - as spelled
            ),
        ),
        (
            "codestral",
            "[SUFFIX]\n[PREFIX]+++++ a.py\nA = 1\n+++++ \nB = 2\n+++++ b.py\ndef f(",
        ),
    ],
)
def test_other_files_come_in_their_order(family: str, expected: str) -> None:
    assert fim_prompt(BY_NAME[family], TOGETHER) == expected


def test_every_family_has_the_answer_end_at_its_marks() -> None:
    for family in FAMILIES:
        template = family.template
        assert set(template.marks) <= set(template.stops)
        # Cutting an answer at what HTML and usage lines say would be worse than not cutting it.
        assert not {"</s>", "<s>", "<filename>", "<reponame>"} & set(template.stops)
    assert BY_NAME["qwen"].stops[0] == "<|file_sep|>", "where an engine takes few, the likeliest"


@pytest.mark.parametrize("family", TEMPLATES)
def test_texts_cannot_speak_in_marks(family: str) -> None:
    template = BY_NAME[family]
    marks = [*template.marks, *template.special]
    evil = FimText(
        "".join(marks),
        "x".join(marks),
        template.suffix,
        (FimFile(template.prefix + "\nc", template.suffix + template.prefix),),
        template.prefix,
    )
    made = fim_prompt(template, evil)
    for mark in template.marks:
        assert made.count(mark) == 1, mark
    for mark in set(template.special) - set(template.marks):
        held_by_a_mark = sum(whole.count(mark) for whole in template.marks)
        assert made.count(mark) == held_by_a_mark, mark


ALL_MARKS = sorted({m for t in BY_NAME.values() for m in (*t.marks, *t.special, *t.stops)})
PIECES = st.sampled_from([piece for m in ALL_MARKS for piece in (m, m[:-1], m[1:], m[:3], m[0])])


@given(st.lists(PIECES | st.text(max_size=3), max_size=12).map("".join))
def test_no_mark_survives_and_nothing_else_changes(text: str) -> None:
    guard = Guard(ALL_MARKS)
    quiet = guard.quiet(text)
    assert not any(mark in quiet for mark in ALL_MARKS if len(mark.lstrip("▁")) > 2)
    assert quiet.replace(" ", "") == text.replace(" ", "")
    assert guard.quiet(quiet) == quiet


def test_ordinary_text_is_left_alone() -> None:
    text = "if a < b and c[0] <= d: print('<b>|x|</b>', [1, 2])\n# <|not a mark|> [SUFFICE]\n"
    for template in BY_NAME.values():
        assert template.quiet(text) == text


@pytest.mark.parametrize("family", TEMPLATES)
@pytest.mark.parametrize("after", ["", "\n    return 1\n"])
def test_the_cursor_is_found_in_a_prompt_with_marks(family: str, after: str) -> None:
    template = BY_NAME[family]
    prompt = template.render("def f(", after)
    assert template.marked(prompt)
    found = template.around_cursor(prompt)
    assert found is not None
    assert template.bare(*found) == ("def f(", after)
    assert not template.marked("def f(")
    assert template.around_cursor("def f(") is None


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_vocabulary_tells_its_family(family: object) -> None:
    row = next(one for one in FAMILIES if one is family)
    words = {*row.template.marks, *row.tells, "the", "a"}
    name = {"granite-code": "granite-8b-code", "codestral": "Codestral 22B"}.get(row.name, "model")
    assert of_vocabulary(words, name) == row.template
    lacking = words - {row.template.suffix}
    assert of_vocabulary(lacking, name) is None


def test_marks_that_others_have_without_knowing_them_need_the_name() -> None:
    assert of_vocabulary({"[PREFIX]", "[MIDDLE]", "[SUFFIX]"}, "Mistral Small") is None


def test_marks_alone_are_enough() -> None:
    found = of_vocabulary({"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"}, "model")
    assert found is not None
    assert found.family == "custom"
    assert found.stops == found.marks


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("Qwen/Qwen2.5-Coder-7B", "qwen"),
        ("qwen2.5-coder:1.5b", "qwen"),
        ("Qwen3-Coder-30B-A3B-Instruct", "qwen"),
        ("Qwen/Qwen2.5-7B-Instruct", None),
        ("bigcode/starcoder2-3b", "starcoder2"),
        ("bigcode/starcoderbase-1b", "starcoder"),
        ("codellama/CodeLlama-7b-hf", "codellama"),
        ("codellama/CodeLlama-34b-hf", None),
        ("codellama/CodeLlama-7b-Python-hf", None),
        ("deepseek-ai/deepseek-coder-6.7b-base", "deepseek"),
        ("deepseek-ai/DeepSeek-Coder-V2-Lite-Base", "deepseek"),
        ("deepseek-ai/DeepSeek-R1", None),
        ("mistralai/Codestral-22B-v0.1", "codestral"),
        ("mistralai/Mistral-7B-Instruct-v0.3", None),
        ("ibm-granite/granite-3b-code-base-2k", "granite-code"),
        ("ibm-granite/granite-3.3-8b-base", "granite"),
        ("ibm-granite/granite-4.0-h-tiny", "granite"),
        ("ibm-granite/granite-3.0-8b-instruct", None),
        ("google/codegemma-2b", "codegemma"),
        ("slalom-mini", "qwen"),
        ("llama-3.1-8b", None),
    ],
)
def test_a_name_tells_its_family(name: str, family: str | None) -> None:
    found = of_name(name)
    assert (found.family if found else None) == family


CODER = ["a", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|file_sep|>", "<|odd|>"]
KINDS = [1, 4, 4, 4, 4, 3]


def test_a_gguf_tells_all_of_its_special_tokens() -> None:
    found = of_gguf(CODER, KINDS, {}, "model")
    assert found is not None
    assert found.family == "qwen"
    assert found.quiet("<|odd|> a <|file_sep|>") == "< |odd|> a < |file_sep|>"
    fields = dict(found.engine_fields)
    assert set(fields["preserved_tokens"]) == set(CODER[1:5])


def test_a_gguf_with_marks_of_its_own() -> None:
    words = ["<before>", "<after>", "<here>", "<path>", "<repo>"]
    ids = {"prefix": 0, "suffix": 1, "middle": 2, "fim_sep": 3, "fim_rep": 4}
    found = of_gguf(words, [3] * 5, ids, "model")
    assert found is not None
    assert fim_prompt(found, FimText("1", "2", "p", (FimFile("q", "3"),), "r")) == (
        "<repo>r\n<path>q\n3\n<path>p\n<before>1<after>2<here>"
    )
    assert set(found.stops) == set(words) - {"<repo>", "<path>"} | {"<path>", "<repo>"}
    assert of_gguf(words, [], {"prefix": 0, "suffix": 1, "middle": 99}, "model") is None


@pytest.mark.parametrize("file", ["tokenizer_config.json", "tokenizer.json"])
def test_a_folder_tells_ids_to_stop_at(tmp_path: Path, file: str) -> None:
    tokens = {number: text for number, text in enumerate(CODER, start=100) if number > 100}
    document: dict[str, object] = {
        "added_tokens_decoder": {str(n): {"content": text} for n, text in tokens.items()}
    }
    if file == "tokenizer.json":
        document = {"added_tokens": [{"id": n, "content": text} for n, text in tokens.items()]}
    (tmp_path / file).write_text(json.dumps(document))
    found = of_folder(tmp_path)
    assert found is not None
    assert found.family == "qwen"
    assert sorted(dict(found.engine_fields)["stop_token_ids"]) == [101, 102, 103, 104]
    assert found.quiet("<|odd|>") == "< |odd|>"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"added_tokens_decoder": 3}'])
def test_a_damaged_folder_tells_nothing(tmp_path: Path, text: str) -> None:
    assert of_folder(tmp_path) is None
    (tmp_path / "tokenizer_config.json").write_text(text)
    assert of_folder(tmp_path) is None


def test_a_template_can_be_written_by_hand() -> None:
    template = FimTemplate("<P>", "<S>", "<M>")
    assert template.render("<P>1", "2<S>") == "<P>< P>1<S>2< S><M>"
