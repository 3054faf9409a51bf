"""A file in an editor: what stands before and after the cursor, and what its typist types next.

Owns the typing itself, one character a keystroke, with the indentation that editors add, and the
window of text that is sent along. Asks nobody. Called by the typists.
"""

from slalom.bench.typing.sources import Source
from slalom.models.fim import FimTemplate
from slalom.workload.streams import stream

#: Text sent along from before and after the cursor, characters.
BEFORE_CHARS_MAX, AFTER_CHARS_MAX = 1_800, 400
#: When the text before the cursor has grown out of the window, the window moves by so much at
#: once, so that the beginning of the prompt stays the same for long.
_MOVE_CHARS = 600
#: What a typist types anew in the file, at least, characters.
_LEFT_MIN = 600


class Document:
    """One file with a cursor in it.

    Args:
        source: The file. From the cursor on a part is taken out, and typed again.
        seed: Of the cursor's place.
        typist: Who types.
    """

    def __init__(self, source: Source, *, seed: int, typist: int) -> None:
        rng = stream(seed, "cursor", typist, source.name)
        text = source.text
        lines = [place + 1 for place, char in enumerate(text) if char == "\n"]
        usable = [at for at in lines if at <= max(len(text) - 2 * _LEFT_MIN, lines[0])]
        start = rng.choice(usable)
        end = min(start + max(_LEFT_MIN, (len(text) - start) // 2), len(text))
        self._before = text[:start]
        self._after = text[end:]
        self._to_type = text[start:end]
        self._follows = ""
        self._window = max(start - BEFORE_CHARS_MAX // 2, 0)

    def __repr__(self) -> str:
        return f"<Document before={len(self._before)} to_type={len(self._to_type)}>"

    @property
    def before(self) -> str:
        """Text before the cursor, as far as it is sent along."""
        return self._before[self._window :]

    @property
    def after(self) -> str:
        """Text after the cursor, as far as it is sent along; never empty."""
        return self._after[:AFTER_CHARS_MAX] or "\n"

    def type(self) -> None:
        """Hit the next key: of the suggestion that is gone on with, else of the file."""
        char, self._follows = self._follows[:1], self._follows[1:]
        if not char:
            char, self._to_type = self._next()
        self._before += char
        if len(self._before) - self._window > BEFORE_CHARS_MAX:
            self._window += _MOVE_CHARS

    def follow(self, suggestion: str) -> None:
        """Go on with the first line of a suggestion, letter by letter."""
        self._follows = suggestion.partition("\n")[0]

    def prompt(self, fim: FimTemplate | None) -> dict[str, str]:
        """The fields of a request that ask for what belongs at the cursor.

        Args:
            fim: How the model wants it; None leaves that to the server.
        """
        if fim is None:
            return {"prompt": self.before, "suffix": self.after}
        return {"prompt": fim.render(self.before, self.after)}

    def _next(self) -> tuple[str, str]:
        """The next character of the file and what is left; a new line brings its indentation."""
        if not self._to_type:
            return " ", ""
        char, rest = self._to_type[0], self._to_type[1:]
        if char != "\n":
            return char, rest
        kept = rest.lstrip(" \t")
        return char + rest[: len(rest) - len(kept)], kept
