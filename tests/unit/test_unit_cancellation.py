"""Tokens: cancelling once and for all, from wherever, without a call lost or doubled."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType

from modelcask.cancellation import CancelToken


def test_each_callback_is_called_once() -> None:
    """Those that are registered, and those that come too late, however often somebody cancels."""
    token, calls = CancelToken(), []
    with token.calling(lambda: calls.append("early")):
        token.cancel()
        token.cancel()
        with token.calling(lambda: calls.append("late")):
            assert calls == ["early", "late"]
    assert token.cancelled
    assert calls == ["early", "late"]


def test_what_has_ended_is_not_called() -> None:
    """A callback belongs to its ``with`` block."""
    token, calls = CancelToken(), []
    with token.calling(lambda: calls.append(1)):
        pass
    token.cancel()
    assert calls == []


def test_a_callback_may_cancel_and_register_itself() -> None:
    """Nothing waits for itself."""
    token, calls = CancelToken(), []

    def again() -> None:
        token.cancel()
        with token.calling(lambda: calls.append("inner")):
            pass

    with token.calling(again):
        token.cancel()
    assert calls == ["inner"]


def test_many_threads_lose_no_call() -> None:
    """Registering races with cancelling: each callback is called once, whoever is first."""
    for _ in range(50):
        assert sorted(_race()) == [0, 1]


def _race() -> list[int]:
    """Register two callbacks from two threads while a third one cancels; return what was called."""
    token, barrier, calls = CancelToken(), threading.Barrier(3), list[int]()

    def register(number: int) -> None:
        called = threading.Event()

        def call() -> None:
            calls.append(number)
            called.set()

        barrier.wait()
        with token.calling(call):
            assert called.wait(30)

    threads = [threading.Thread(target=register, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    barrier.wait()
    token.cancel()
    for thread in threads:
        thread.join()
    return calls


def test_a_signal_handler_may_cancel_between_any_two_lines() -> None:
    """Also while this very thread registers a callback: it is called, and called once."""
    calls_inside = [_calls_when_cancelled_at(line) for line in range(1, 40)]
    assert sum(calls is not None for calls in calls_inside) > 3
    assert {calls for calls in calls_inside if calls is not None} == {1}


def _calls_when_cancelled_at(line: int) -> int | None:
    """Cancel from a signal handler before the nth line of registering; return the calls, None without a signal."""
    token, calls, seen = CancelToken(), list[int](), 0
    code = CancelToken.calling.__wrapped__.__code__  # type: ignore[attr-defined] # what contextmanager wraps

    def trace(frame: FrameType, event: str, _: object) -> object:
        nonlocal seen
        if frame.f_code is code and event == "line":
            seen += 1
            if seen == line:
                signal.raise_signal(signal.SIGUSR1)
        return trace

    before = signal.signal(signal.SIGUSR1, lambda *_: token.cancel())
    former = sys.gettrace()
    try:
        sys.settrace(trace)  # type: ignore[arg-type] # the stub wants the exact protocol
        with token.calling(lambda: calls.append(1)):
            was_cancelled = token.cancelled
            sys.settrace(former)
    finally:
        sys.settrace(former)
        signal.signal(signal.SIGUSR1, before)
    return len(calls) if was_cancelled else None
