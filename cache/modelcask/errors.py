"""Every error modelcask raises, and the exit code each one ends the command with.

::

    CacheError                          1   never raised itself
    ├── InvalidInputError               2   the words are wrong (also ValueError)
    │   ├── InvalidURIError
    │   ├── InvalidDigestError
    │   └── ConfigError
    ├── NotFoundError                   3   not here, or not there (also LookupError)
    │   ├── NotCachedError
    │   ├── ModelNotFoundError
    │   └── RevisionNotFoundError
    ├── VerificationError               4   the bytes are wrong; nothing was published
    │   ├── DigestMismatchError
    │   └── SizeMismatchError
    ├── StoreFullError                  5   not enough space
    ├── TransferError                   6   the network failed; the partial is kept
    │   ├── ConnectionInterruptedError
    │   ├── ResponseError
    │   ├── TransferTimeoutError
    │   ├── RemoteChangedError
    │   └── OfflineError
    ├── AccessDeniedError               7   a token is missing or not enough
    ├── PolicyError                     8   refused by the user's or the safety policy
    ├── BusyError                       9   somebody else holds it
    ├── PullCancelledError              130 the caller did not want it any more
    └── StorageError                    10  disk or catalog unusable
        ├── CorruptStoreError
        └── SchemaVersionError

A class answers one question: what can the caller do now? Facts are attributes; the message ends with the
next step. ``retryable`` says whether the same call may succeed later with nothing changed here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar


class CacheError(Exception):
    """The root of the tree; catch it, never raise it."""

    exit_code: ClassVar[int] = 1
    retryable: bool = False


class InvalidInputError(CacheError, ValueError):
    """Say that what the caller wrote cannot be understood."""

    exit_code = 2


class InvalidURIError(InvalidInputError):
    """Say which part of a URI is wrong, and the nearest right form where there is one."""

    def __init__(self, text: str, reason: str, *, part: str | None = None, suggestion: str | None = None) -> None:
        self.text = text
        self.reason = reason
        self.part = part
        self.suggestion = suggestion
        message = f"cannot read {text!r}: {reason}"
        if suggestion is not None:
            message += f"; did you mean {suggestion}"
        super().__init__(message)


class InvalidDigestError(InvalidInputError):
    """Say that a digest is not ``algorithm:hex`` in full length."""


class ConfigError(InvalidInputError):
    """Say which setting is wrong and where it was read."""


class NotFoundError(CacheError, LookupError):
    """Say that something is not here, or not at the source."""

    exit_code = 3


class NotCachedError(NotFoundError):
    """Say that the cache does not hold what the URI names, or holds only a part of it."""

    def __init__(self, uri: str, detail: str = "is not cached", *, step: str = "") -> None:
        self.uri = uri
        super().__init__(f"{uri} {detail}; run: {step or f'modelcask pull {uri}'}")


class ModelNotFoundError(NotFoundError):
    """Say that the source has no such model or file."""

    def __init__(self, uri: str, detail: str) -> None:
        self.uri = uri
        super().__init__(detail)


class RevisionNotFoundError(NotFoundError):
    """Say that the source has the model, but not that revision."""

    def __init__(self, uri: str, revision: str, detail: str) -> None:
        self.uri = uri
        self.revision = revision
        super().__init__(detail)


class VerificationError(CacheError):
    """Say that bytes are not what was promised; nothing was published."""

    exit_code = 4


class DigestMismatchError(VerificationError):
    """Carry the digest that was promised and the one that was computed, both as ``algorithm:hex``."""

    def __init__(self, what: str, expected: str, actual: str) -> None:
        self.what = what
        self.expected = expected
        self.actual = actual
        super().__init__(
            f"{what} has the wrong bytes: expected {expected}, got {actual}; "
            "nothing was published; pull again, and if it repeats the source serves something else"
        )


class SizeMismatchError(VerificationError):
    """Carry the size that was promised and the one that arrived, in bytes."""

    def __init__(self, what: str, expected: int, actual: int) -> None:
        self.what = what
        self.expected = expected
        self.actual = actual
        super().__init__(
            f"{what} has the wrong size: expected {expected} bytes, got {actual}; "
            "nothing was published; pull again, and if it repeats the source serves something else"
        )


class StoreFullError(CacheError):
    """Carry what is needed and what is available, in bytes; ``reserved`` by other downloads counts as not available.

    Where a file did not come to its end, ``path`` names it, ``bytes_kept`` of it are kept, and ``needed`` is only what
    the next step needs.
    """

    exit_code = 5
    retryable = True

    def __init__(
        self, needed: int, available: int, *, where: str = "", reserved: int = 0, path: str = "", bytes_kept: int = 0
    ) -> None:
        self.needed = needed
        self.available = available
        self.where = where
        self.reserved = reserved
        self.path = path
        self.bytes_kept = bytes_kept
        super().__init__("; ".join(self._sentences()))

    def amid(self, path: str, bytes_kept: int) -> StoreFullError:
        """Return the same error as it is for a file in its middle, of which so many bytes are kept."""
        return StoreFullError(
            self.needed, self.available, where=self.where, reserved=self.reserved, path=path, bytes_kept=bytes_kept
        )

    def _sentences(self) -> Iterator[str]:
        full = f"not enough space{f' in {self.where}' if self.where else ''}: "
        if self.needed > self.available:
            least = "at least " if self.path else ""
            full += f"{least}{self.needed:,} bytes needed, {self.available:,} available, "
            full += f"{least}{self.needed - self.available:,} missing"
        else:
            full += "the disk, or a quota on it, is full"  # bytes do not tell: a quota, or too many files
        yield f"{self.path}: {full}" if self.path else full
        if self.reserved:
            yield f"{self.reserved:,} more are free, but reserved by other downloads"
        if not self.path:
            yield "free some, or set MODELCASK_HOME to a larger disk"
        elif self.bytes_kept:
            yield f"{self.bytes_kept:,} bytes of it are kept"
            yield "free some, then pull again to go on from there"
        else:
            yield "nothing of it is kept"
            yield "free some, or set MODELCASK_HOME to a larger disk, then pull again"


class TransferError(CacheError):
    """Say that the network failed; ``bytes_kept`` bytes are on disk and the next pull goes on from there."""

    exit_code = 6
    retryable = True

    def __init__(self, message: str, *, bytes_kept: int = 0, retry_after: float | None = None) -> None:
        self.bytes_kept = bytes_kept
        self.retry_after = retry_after
        super().__init__(message)


class ConnectionInterruptedError(TransferError):
    """Say that the connection could not be made, or ended before the last byte."""


class ResponseError(TransferError):
    """Say that the server answered with something that is not the file."""

    def __init__(
        self, message: str, *, status: int, retryable: bool, bytes_kept: int = 0, retry_after: float | None = None
    ) -> None:
        self.status = status
        self.retryable = retryable
        super().__init__(message, bytes_kept=bytes_kept, retry_after=retry_after)


class TransferTimeoutError(TransferError, TimeoutError):
    """Say that no bytes, or too few, arrived in time."""


class RemoteChangedError(TransferError):
    """Say that the file at the source changed while it was being fetched."""


class OfflineError(TransferError):
    """Say that the network is needed, but was forbidden by ``--offline`` or the configuration."""

    retryable = False


class AccessDeniedError(CacheError):
    """Say that the source wants a token, or that the token given is not enough (401, 403, gated)."""

    exit_code = 7

    def __init__(self, message: str, *, status: int | None = None) -> None:
        self.status = status
        super().__init__(message)


class PolicyError(CacheError):
    """Say which rule of the user's or the safety policy refused this."""

    exit_code = 8


class BusyError(CacheError):
    """Carry who holds what is wanted, and since when (ISO 8601), as far as that is known."""

    exit_code = 9
    retryable = True

    def __init__(self, what: str, *, holder: str | None = None, since: str | None = None) -> None:
        self.holder = holder
        self.since = since
        by = f" by {holder}" if holder else ""
        when = f" since {since}" if since else ""
        super().__init__(f"{what} is held{by}{when}; try again when it has ended")


class PullCancelledError(CacheError):
    """Say that the caller's token ended a pull, and whether what has arrived is kept."""

    exit_code = 130
    retryable = True

    def __init__(self, uri: str, *, kept: bool) -> None:
        self.uri = uri
        self.kept = kept
        left = "what has arrived is kept: pull again to go on" if kept else "what had arrived is deleted; pull again"
        super().__init__(f"{uri} was cancelled; {left}")


class StorageError(CacheError):
    """Say that the disk or the catalog cannot be used."""

    exit_code = 10


class CorruptStoreError(StorageError):
    """Say what in the store is damaged, and where."""


class SchemaVersionError(StorageError):
    """Carry the catalog's schema version and the newest one that this program knows."""

    def __init__(self, found: str, supported: str) -> None:
        self.found = found
        self.supported = supported
        super().__init__(f"the catalog has schema {found}, this modelcask knows up to {supported}; upgrade modelcask")
