"""How much a self-hosted target bears at once, from how long first content takes (Netflix's Gradient2).

The limit grows by a few as long as times stay within 1.5 times what they are without a queue, and shrinks by the ratio
when they rise: a queue is building up there. What they are without a queue is believed quickly when it is less than
before, and hardly while the target is busy when it is more: a long average, as the original has it, would come to
take the queue for usual. Not for hosted APIs, whose limits are in tokens (see `limits`).
"""

from __future__ import annotations

LEAST, FIRST, MOST = 4, 20, 200
ROOM = 4.0
TOLERANCE = 1.5
_SMOOTHING = 0.5
_FASTER, _IDLE, _LOADED = 0.5, 0.1, 0.005
"""How far the usual time follows a round: a shorter one; a longer one while the target is half idle, or is not."""


class Gradient:
    """It looks at rounds: as many answers as may be under way, so that each shows what the last change has brought."""

    __slots__ = ("_exact", "_most", "_n", "_sum", "_usual")

    def __init__(self) -> None:
        self._exact = float(FIRST)
        self._usual = 0.0
        self._n = 0
        self._sum = 0.0
        self._most = 0

    def observe(self, seconds: float, in_flight: int) -> int:
        """An answer's first content took so long. Gives the limit from now on."""
        self._n += 1
        self._sum += seconds
        self._most = max(self._most, in_flight)
        if self._n >= self._exact:
            self._round(self._sum / self._n, self._most * 2 >= self._exact)
            self._n = self._most = 0
            self._sum = 0.0
        return int(self._exact)

    def _round(self, mean: float, loaded: bool) -> None:
        if not self._usual:
            self._usual = mean
        self._usual += (mean - self._usual) * (_FASTER if mean < self._usual else _LOADED if loaded else _IDLE)
        if loaded:  # half idle, times tell nothing of what it bears
            ratio = max(0.5, min(1.0, TOLERANCE * self._usual / max(mean, 1e-6)))
            wanted = self._exact * ratio + ROOM
            self._exact += (wanted - self._exact) * _SMOOTHING
            self._exact = max(float(LEAST), min(float(MOST), self._exact))
