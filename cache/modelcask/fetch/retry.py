"""When the network is asked again, and after how long: tenacity's policies over our errors."""

from __future__ import annotations

from tenacity import AsyncRetrying, RetryCallState, wait_random_exponential

from modelcask.errors import RemoteChangedError, TransferError

_backoff = wait_random_exponential(multiplier=1, max=60)


def is_worth_another_try(error: BaseException) -> bool:
    """Say whether the same request may succeed later. A changed source is not: it has to be resolved again."""
    return isinstance(error, TransferError) and error.retryable and not isinstance(error, RemoteChangedError)


def wait_s(state: RetryCallState) -> float:
    """Return how long to wait before the next try: with jitter, and no less than the server asked for."""
    error = state.outcome and state.outcome.exception()
    asked_s = error.retry_after if isinstance(error, TransferError) else None  # capped where it is read
    return max(_backoff(state), asked_s or 0.0)


def wait_after(failures: int, error: BaseException) -> float:
    """Return what :func:`wait_s` does, for the ``failures``-th failure in a row."""
    state = RetryCallState(AsyncRetrying(), None, (), {})
    state.attempt_number = failures
    state.set_exception((type(error), error, error.__traceback__))
    return wait_s(state)


def reason(error: BaseException | None, wait: float) -> str:
    """Return why the try failed and when the next one comes, for a person."""
    # Messages end with the caller's next step after a semicolon; here the next step is ours.
    when = f"in {wait:.0f} s" if wait >= 1 else "at once"
    return f"{str(error).partition('; ')[0]}; trying again {when}"
