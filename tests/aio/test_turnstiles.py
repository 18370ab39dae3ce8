"""Turnstiles let few tasks wait in the store, the others in order, and lose nobody to a task that is cancelled."""

from __future__ import annotations

import asyncio

import pytest

from redicts import LockTimeout
from redicts.aio.turnstiles import Turnstiles

PATHS = (("a",),)


def test_a_task_that_is_cancelled_when_it_is_let_in_lets_the_next_one_in() -> None:
    """Between the leave of one task and the next step of the one that it lets in, that may be cancelled."""

    async def main() -> None:
        turnstiles = Turnstiles()
        for _ in range(16):
            assert await turnstiles.enter(PATHS, None) is None
        first, second = [asyncio.create_task(turnstiles.enter(PATHS, None)) for _ in range(2)]
        await asyncio.sleep(0)
        turnstiles.leave(PATHS)
        first.cancel()
        await asyncio.wait([first, second], timeout=5)
        assert first.cancelled()
        assert second.done()
        with pytest.raises(LockTimeout, match="16 tasks of this event loop"):
            await turnstiles.enter(PATHS, 0.01)
        for _ in range(16):
            turnstiles.leave(PATHS)
        assert not turnstiles._by_paths, "nothing is kept of a lock that nobody waits for"

    asyncio.run(main())


def test_other_locks_have_turnstiles_of_their_own() -> None:
    """Only tasks that wait for the same paths wait for each other, and a timeout counts from the call."""

    async def main() -> None:
        turnstiles = Turnstiles()
        for number in range(40):
            assert await turnstiles.enter(((str(number),),), 5) == 5

    asyncio.run(main())
