from __future__ import annotations

import asyncio

from proxy.measure.looplag import LoopLag
from tests.virtual import VirtualLoop, run_virtually


def test_the_worst_lateness_is_kept_until_it_is_taken() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        lag = LoopLag()
        lag.start()
        await asyncio.sleep(1.2)
        assert lag.take() == 0
        # As if a callback had held up the loop past the moments at which the probe is due.
        for held_up in (0.9, 2.0, 0.7):
            loop._jumping.now += held_up
            await asyncio.sleep(0.5)
        worst = lag.take()
        assert 1.5 <= worst <= 2.0
        assert lag.take() == 0
        lag.stop()
        await asyncio.sleep(5)
        assert lag.take() == 0

    run_virtually(main())


def test_stopping_what_was_never_started_is_nothing() -> None:
    LoopLag().stop()
