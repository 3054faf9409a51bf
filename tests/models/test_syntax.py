"""Whether a completion makes a program of what is around it, and whose fault it is if not."""

import pytest

from slalom.models.syntax import Filled, can_parse, is_program, language_of

FUNCTION = "def area(width, height):\n    return "


@pytest.mark.parametrize(
    ("before", "answer", "after", "fits"),
    [
        (FUNCTION, "width * height", "\n\nprint(area(2, 3))\n", True),
        (FUNCTION, "width * * height", "\n\nprint(area(2, 3))\n", False),
        (FUNCTION, "(width * height", "\n\nprint(area(2, 3))\n", False),
        (FUNCTION, "width * height)", "\n", False),
        ("for x in y:\n", "    print(x)\n    print(y)\n", "done()\n", True),
        ("for x in y:\n", "print(x)\n", "done()\n", False),
        ("", "x = 1\n", "", True),
        # A window that begins within a class, and leaves it.
        (
            "        a = 1\n        return ",
            "a + 1",
            "\n\n    def other(self):\n        pass\n",
            True,
        ),
        (
            "        a = 1\n        return ",
            "a +",
            "\n\n    def other(self):\n        pass\n",
            False,
        ),
        ("    # of the class above\n    def f(self):\n        ", "pass", "\n\nx = 1\n", True),
        # Broken elsewhere: that is not the completion's fault.
        ("class :\n    pass\n\n\n" + FUNCTION, "width * height", "\n", None),
        (FUNCTION, "width * height", "\n\n\ndef broken(:\n    pass\n", None),
        ("x = '''\n", "anything", "\n\x00\n", None),
    ],
)
def test_python(before: str, answer: str, after: str, fits: bool | None) -> None:
    assert is_program("python", Filled(before, answer, after)) is fits


def test_what_a_limit_ended_is_looked_at_without_its_last_line() -> None:
    cut = Filled("def f():\n", "    x = 1\n    return (x +", "\n", cut=True)
    assert is_program("python", cut) is True
    assert is_program("python", Filled(cut.before, cut.answer, cut.after)) is False
    assert is_program("python", Filled("x = ", "(1 +", "\n", cut=True)) is None


def test_of_a_long_text_only_what_is_near_is_looked_at() -> None:
    far = "def broken(:\n" + "x = 1\n" * 10_000
    assert is_program("python", Filled(far, "y = 2\n", "z = 3\n")) is True
    assert is_program("python", Filled(far, "y = = 2\n", far)) is False


@pytest.mark.parametrize(
    ("language", "before", "answer", "after", "fits"),
    [
        ("javascript", "function f(a) {\n  return ", "a + 1;", "\n}\n", True),
        ("javascript", "function f(a) {\n  return ", "a + ;", "\n}\n", False),
        ("javascript", "function (\n\n\n\nconst x = ", "1;", "\nconst y = 2;\n", None),
        ("typescript", "const x: number = ", "1;", "\n", True),
        ("typescript", "const x: number = ", "]1;", "\n", False),
        ("tsx", "const e = <div>", "{x}", "</div>;\n", True),
        ("java", "class A { int f() { return ", "1;", " } }\n", True),
        ("java", "class A { int f() { return ", "1 1;", " } }\n", False),
        ("go", "package a\nfunc f() int {\n\treturn ", "1", "\n}\n", True),
        ("go", "package a\nfunc f() int {\n\treturn ", "1)", "\n}\n", False),
        ("rust", "fn f() -> u8 { ", "1", " }\n", True),
        ("rust", "fn f() -> u8 { ", "let = 1", " }\n", False),
        ("c", "int f(void) { return ", "1;", " }\n", True),
        ("c", "int f(void) { return ", "1 +;", " }\n", False),
        ("cpp", "auto f() { return ", "std::string{};", " }\n", True),
    ],
)
def test_languages_of_tree_sitter(
    language: str, before: str, answer: str, after: str, fits: bool | None
) -> None:
    pytest.importorskip("tree_sitter")
    assert can_parse(language)
    assert is_program(language, Filled(before, answer, after)) is fits


def test_without_its_parser_a_language_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from slalom.models import syntax  # noqa: PLC0415 - its cache is emptied

    monkeypatch.setitem(__import__("sys").modules, "tree_sitter_go", None)
    syntax._parser.cache_clear()
    try:
        assert not can_parse("go")
        assert is_program("go", Filled("", ")", "")) is None
    finally:
        syntax._parser.cache_clear()


@pytest.mark.parametrize(
    ("name", "told", "language"),
    [
        ("src/a.py", "", "python"),
        ("a.pyi", "go", "python"),
        ("a.unknown", "js", "javascript"),
        ("Makefile", "", ""),
        (".py", "", ""),
        ("", "Python", "python"),
        ("", "TypeScriptReact", "tsx"),
        ("", "cobol", ""),
        ("A.TSX", "", "tsx"),
        ("a.hpp", "", "cpp"),
    ],
)
def test_which_language(name: str, told: str, language: str) -> None:
    assert language_of(name, told) == language
