"""Digests: the names of bytes.

A digest is written ``algorithm:hex``, lower case and in full length, everywhere: in URIs, manifests, the
catalog's answers and on the command line. A blob is named by its BLAKE3; the other algorithms are what
sources promise: ``sha256`` (Hub LFS files, OCI, pins), ``git-sha1`` (small Hub files: SHA-1 over
``blob <size>NUL`` and the content, as git names a blob) and ``md5`` (some plain servers).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from blake3 import blake3

from modelcask.errors import InvalidDigestError

HEX_LENGTHS: Final = {"blake3": 64, "sha256": 64, "git-sha1": 40, "md5": 32}
"""Each algorithm and the length of its digest in hex digits."""

STRONG: Final = frozenset({"blake3", "sha256"})
"""The algorithms for which an equal digest means equal bytes, whoever made the file."""

_LOWER_HEX = re.compile(r"[0-9a-f]+", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """One digest. The constructor trusts its arguments; ``parse`` checks them."""

    algorithm: str
    hex: str

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read ``algorithm:hex``.

        Raises:
            InvalidDigestError: the algorithm is unknown, or the hex digits are not lower case or not all there.
        """
        algorithm, _, hexdigits = text.partition(":")
        length = HEX_LENGTHS.get(algorithm)
        if length is None:
            raise InvalidDigestError(
                f"{text[:80]!r} is not a digest: write algorithm:hex with one of {', '.join(HEX_LENGTHS)}"
            )
        if len(hexdigits) != length or _LOWER_HEX.fullmatch(hexdigits) is None:
            raise InvalidDigestError(f"{text[:80]!r} is not a digest: {algorithm} takes {length} lower-case hex digits")
        return cls(algorithm, hexdigits)

    @classmethod
    def from_bytes(cls, algorithm: str, value: bytes) -> Digest:
        """Name the raw bytes of a digest, as the catalog keeps them."""
        return cls.parse(f"{algorithm}:{value.hex()}")

    @property
    def value(self) -> bytes:
        """The raw bytes of the digest."""
        return bytes.fromhex(self.hex)

    @property
    def strong(self) -> bool:
        """Whether an equal digest proves equal bytes against somebody who wants to deceive."""
        return self.algorithm in STRONG

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


def first_strong(digests: Iterable[Digest]) -> Digest | None:
    """Return the digest of several that proves most: the first strong one, None if there is none."""
    return next((digest for digest in digests if digest.strong), None)


class Hash(Protocol):
    """A running hash, as :mod:`hashlib` and :mod:`blake3` give it."""

    def update(self, data: bytes | bytearray | memoryview, /) -> object:
        """Add bytes."""
        ...

    def hexdigest(self) -> str:
        """Return the digest of all bytes so far, in lower-case hex."""
        ...


def new_hash(algorithm: str, *, size: int | None = None) -> Hash:
    """Start a hash of one of the known algorithms.

    Args:
        algorithm: a key of ``HEX_LENGTHS``.
        size: the file's size in bytes; ``git-sha1`` begins with it and cannot start without.
    """
    if algorithm == "blake3":
        return blake3()
    if algorithm == "git-sha1":
        if size is None:
            raise ValueError("git-sha1 needs the size before the first byte")
        return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    return hashlib.new(algorithm, usedforsecurity=False)
