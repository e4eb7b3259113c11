"""What is wrong with a config, said so that it can be mended: where, which setting, what, and how to put it right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Wrong(ValueError):
    """A value that cannot be used. `hint` says how to mend it. Never holds the text of a secret."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class NotText(Wrong):
    """A number, true/false or null where text belongs (YAML reads an unquoted `4.1` so; see `load._as_written`)."""


class Problem(NamedTuple):
    where: str
    """File, and `:line` where the format tells it."""
    path: str
    """The setting, as in `routes.chat.targets[0]`; empty for the file as a whole."""
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        text = ": ".join(part for part in (self.where, self.path, self.message) if part)
        return printable(f"{text} ({self.hint})" if self.hint else text)


class ConfigError(Exception):
    """A config that is refused, with every problem found in it, in the order of the file."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = list(problems)


def printable(text: str) -> str:
    """`text` on one line that any terminal takes: control characters and lone surrogates are shown as escapes."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode()
        for character in text
    )


def did_you_mean(word: str, known: Iterable[str], *, closeness: float = 0.6) -> str | None:
    """A hint that names the nearest known word; None when none is as near as `closeness` (0 to 1)."""
    import difflib

    near = difflib.get_close_matches(word[:100], list(known), n=1, cutoff=closeness)
    return f"did you mean {near[0]!r}?" if near else None


def path_text(loc: Sequence[str | int]) -> str:
    """`("routes", "chat", "targets", 0)` as `routes.chat.targets[0]`."""
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part and not any(character.isspace() for character in part):
            text += f".{part}" if text else part
        else:
            text += f"[{part!r}]"
    return text
