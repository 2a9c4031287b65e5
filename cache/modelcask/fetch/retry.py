"""When the network is asked again, and after how long: tenacity's policies over our errors."""

from __future__ import annotations

from tenacity import RetryCallState, wait_random_exponential

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


def reason(state: RetryCallState) -> str:
    """Return why the try failed and when the next one comes, for a person."""
    error = state.outcome and state.outcome.exception()
    # Messages end with the caller's next step after a semicolon; here the next step is ours.
    return f"{str(error).partition('; ')[0]}; trying again in {state.upcoming_sleep:.0f} s"
