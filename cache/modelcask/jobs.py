"""Jobs: several pulls side by side, ended together by a token or a time limit, each with its own outcome."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from modelcask.cancellation import CancelToken
from modelcask.errors import CacheError, PullCancelledError, TransferTimeoutError
from modelcask.types import Snapshot

if TYPE_CHECKING:
    from modelcask.pulling import Order, Puller

Ended = Snapshot | BaseException


async def run_job(
    puller: Puller, orders: Sequence[Order], *, cancel: CancelToken | None = None, max_time_s: float | None = None
) -> list[Ended]:
    """Run pulls side by side; return how each has ended, in order. One that fails does not stop the others.

    Cancelled as a task, all are cancelled and have tidied up when this raises CancelledError.
    """
    if not orders:
        return []
    loop = asyncio.get_running_loop()
    tasks = [asyncio.ensure_future(puller.pull(order)) for order in orders]

    def stop() -> None:
        for task in tasks:
            task.cancel()

    def stop_soon() -> None:
        with contextlib.suppress(RuntimeError):  # all had ended, and the loop is closed
            loop.call_soon_threadsafe(stop)

    token = cancel or CancelToken()
    try:
        with token.calling(stop_soon):
            _, late = await asyncio.wait(tasks, timeout=max_time_s)
    finally:
        stop()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    return [
        _named(order, outcome, late=task in late and not token.cancelled, max_time_s=max_time_s or 0)
        for order, task, outcome in zip(orders, tasks, outcomes, strict=True)
    ]


def _named(order: Order, outcome: Ended, *, late: bool, max_time_s: float) -> Ended:
    """Say of a pull that was cancelled why it was."""
    if not isinstance(outcome, asyncio.CancelledError):
        return outcome
    if late:
        left = "what has arrived is kept: pull again to go on" if order.keep_partial else "allow more time"
        return TransferTimeoutError(f"{order.uri.canonical} was not there after {max_time_s:g} s; {left}")
    return PullCancelledError(order.uri.canonical, kept=order.keep_partial)


def snapshots_of(outcomes: Sequence[Ended]) -> list[Snapshot]:
    """Return the snapshots of pulls that have all succeeded.

    Raises:
        CacheError: the first error, in order; each further one is a note on it.
    """
    raise_first([outcome for outcome in outcomes if isinstance(outcome, BaseException)])
    return [outcome for outcome in outcomes if isinstance(outcome, Snapshot)]


def raise_first(errors: Sequence[BaseException]) -> None:
    """Raise the first of several errors, in order, with each further one as a note on it; return if there is none."""
    if not errors:
        return
    # What is no CacheError is a mistake of ours, and must not hide behind one.
    first = next((error for error in errors if not isinstance(error, CacheError)), errors[0])
    for other in errors:
        if other is not first:
            first.add_note(f"also: {other}")
    raise first
