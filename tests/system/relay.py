"""A relay on loopback in front of another server: it cuts on command, and with it the server is gone.

::

    with Relay(port) as relay:
        relay.cut_after(1_000_000)   # the next answer that is longer ends there
        ...
    # nobody answers at relay.url any more
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Self


class Relay:
    """Passes every connection on to ``port`` of this machine."""

    def __init__(self, port: int) -> None:
        self.port = 0
        self.cuts = 0
        """How many connections were cut so far."""
        self._server_port = port
        self._budget: int | None = None
        self._ready = threading.Event()
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut_after(self, size: int) -> None:
        """Cut the first connection that brings more than ``size`` bytes from now on, head and body counted."""
        self._budget = size

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="relay")
        self._thread.start()
        assert self._ready.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Be gone, every connection with it. Safe to call twice."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end.set)
            self._thread.join()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._end.wait()
        server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        writers = [writer]
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._server_port)
            writers.append(back)
            asking = asyncio.create_task(self._pass_on(reader, back, counted=False))
            try:
                await self._pass_on(there, writer, counted=True)
            finally:
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass  # a peer is gone, or the relay is closing
        finally:
            for each in writers:
                each.transport.abort()
            self._connections.discard(task)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counted: bool) -> None:
        passed = 0
        while chunk := await reader.read(1 << 16):
            passed += len(chunk)
            if counted and self._budget is not None and passed > self._budget:
                writer.write(chunk[: len(chunk) - (passed - self._budget)])
                self._budget = None
                self.cuts += 1
                with contextlib.suppress(OSError):
                    await writer.drain()
                    writer.close()
                    await writer.wait_closed()
                return
            writer.write(chunk)
            await writer.drain()
