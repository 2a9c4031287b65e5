"""The simplest sink: bytes in memory. Tests of a transfer read ``content``."""

from __future__ import annotations


class MemorySink:
    """Follow ``modelcask.types.Sink`` without a disk."""

    def __init__(self, content: bytes = b"") -> None:
        self._content = bytearray(content)
        self.restarts = 0

    @property
    def content(self) -> bytes:
        """All bytes so far."""
        return bytes(self._content)

    @property
    def front(self) -> int:
        return len(self._content)

    async def write(self, chunk: bytes) -> None:
        self._content += chunk

    async def restart(self) -> None:
        self._content.clear()
        self.restarts += 1
