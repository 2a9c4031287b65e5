"""What is open of one root: opened when it is first needed, shared by all verbs and threads, closed together."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modelcask.config import Settings
from modelcask.finding import Finder
from modelcask.layout import Layout
from modelcask.store.root import open_root, read_format, refuse_lost_catalog

# The heavy parts (SQLAlchemy, aiohttp, huggingface_hub) are imported when they are opened: a lookup needs none of
# them, and it is what programs do all day.
if TYPE_CHECKING:
    from modelcask.catalog.catalog import Catalog
    from modelcask.pulling import Puller


@dataclass(slots=True)
class _Shared:
    """One puller, and how many use it or wait for it."""

    opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    puller: Puller | None = None
    users: int = 0


class Resources:
    """The finder, the catalog and the pullers of one root. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        self.layout = Layout(settings.home)
        self.finder = Finder(self.layout, self.catalog)
        self._settings = settings
        self._guard = threading.RLock()
        self._catalog: Catalog | None = None
        self._pullers: dict[asyncio.AbstractEventLoop, _Shared] = {}

    def exists(self) -> bool:
        """Say whether there is a store."""
        return read_format(self.layout) is not None

    def catalog(self) -> Catalog:
        """Return the catalog, open; a root that is not there yet is made."""
        with self._guard:
            if self._catalog is None:
                from modelcask.catalog.catalog import Catalog  # noqa: PLC0415

                layout, _ = open_root(self.layout.root)
                refuse_lost_catalog(layout)
                self._catalog = Catalog.open(layout)
            return self._catalog

    @contextlib.asynccontextmanager
    async def pulling(self) -> AsyncIterator[Puller]:
        """Share one puller among all that pull on one event loop at a time: its limits are for all of them."""
        loop = asyncio.get_running_loop()
        shared = self._pullers.setdefault(loop, _Shared())
        shared.users += 1
        try:
            async with shared.opening:  # whoever begins at the same time waits for the one that is being opened
                puller = shared.puller or await self._open_puller()
                shared.puller = puller
            yield puller
        finally:
            shared.users -= 1
            if not shared.users:
                del self._pullers[loop]
                if shared.puller is not None:
                    await shared.puller.__aexit__()

    async def _open_puller(self) -> Puller:
        from modelcask.pulling import Puller  # noqa: PLC0415

        catalog = await asyncio.to_thread(self.catalog)
        return await Puller(self.layout, self._settings, catalog, self.finder).__aenter__()

    def close(self) -> None:
        """Close what is open; it is opened again by whoever needs it next."""
        self.finder.close()
        with self._guard:
            if self._catalog is not None:
                self._catalog.close()
                self._catalog = None
