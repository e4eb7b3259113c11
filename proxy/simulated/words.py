"""Words of simulated answers. Some lie outside ASCII, so that every answer tries the reader's UTF-8."""

from __future__ import annotations

from random import Random

_OPENING = ("Überall", "Élégant,", "Çok", "Åtta", "Øst", "Ñandú", "Ähnlich", "Ølet")
_ASCII = (
    "the", "truck", "scale", "load", "stands", "still", "until", "a", "needle", "rests", "and", "then", "rolls", "on",
    "slowly", "with", "gravel", "under", "grey", "morning", "light", "while", "someone", "writes", "numbers", "down",
)  # fmt: skip
_BEYOND = ("größer", "façade", "naïve", "日本", "Łódź", "🚚", "crème", "señal", "déjà", "Ελλάδα")


def text_pieces(rng: Random, count: int) -> list[str]:
    """`count` tokens of running text; all but the first begin with a space."""
    if count < 1:
        return []
    pieces = [rng.choice(_OPENING)]
    for at in range(1, count):
        pieces.append(" " + rng.choice(_BEYOND if at % 4 == 3 else _ASCII))
    return pieces


def phrase(rng: Random) -> str:
    return f"{rng.choice(_ASCII)} {rng.choice(_BEYOND)}"


def name(rng: Random) -> str:
    return rng.choice(_ASCII)
