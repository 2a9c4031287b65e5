"""A blocking call, awaited without being at its mercy."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


async def in_thread(call: Callable[[], _T], *, limit_s: float) -> _T:
    """Run ``call`` in a thread of its own; stop waiting for it, and leave it behind, when cancelled or late.

    Not in asyncio's pool: the event loop waits for that at its end, and so a Ctrl-C would wait for a server that
    does not answer. A thread that was left behind ends by the call's own timeouts and holds up nobody.

    Raises:
        TimeoutError: it took longer than ``limit_s`` seconds.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[_T] = loop.create_future()

    def settle(finish: Callable[[], None]) -> None:
        if not outcome.done():
            finish()

    def run() -> None:
        finish: Callable[[], None]
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001 - raised again where it is awaited
            raised = error  # outlives the except block, where the name it was caught by does not
            finish = lambda: outcome.set_exception(raised)  # noqa: E731
        else:
            finish = lambda: outcome.set_result(result)  # noqa: E731
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
            loop.call_soon_threadsafe(settle, finish)

    threading.Thread(target=run, name="modelcask-blocking-call", daemon=True).start()
    async with asyncio.timeout(limit_s):
        return await outcome
