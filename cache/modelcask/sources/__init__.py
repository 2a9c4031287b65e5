"""Sources: one adapter for each URI scheme, found through the entry-point group ``modelcask.sources``.

A package adds a scheme by naming its adapter in its own metadata; nothing is registered by hand::

    [project.entry-points."modelcask.sources"]
    ollama = "their_package.ollama:OllamaSource"

The class follows :class:`Source`. It gets its URIs from ``parse_uri`` (which reads any ``scheme://…``), makes every
request through the ``Client`` it is given, and raises the errors of ``modelcask.errors`` only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Final, Protocol, cast

from modelcask.config import Settings
from modelcask.errors import ConfigError, InvalidURIError
from modelcask.printable import display
from modelcask.types import Resolution
from modelcask.uri import ModelURI

if TYPE_CHECKING:
    from modelcask.net.client import Client  # aiohttp: only whoever uses the network imports it

GROUP: Final = "modelcask.sources"

Wanted = Callable[[str], bool]
"""Says of a file's path in its source whether the user asked for it."""


class Source(Protocol):
    """What can turn URIs of one scheme into files."""

    needs_network: bool
    """Whether ``resolve`` needs a client and is refused offline."""

    def __init__(self, settings: Settings, client: Client | None) -> None: ...

    async def resolve(self, uri: ModelURI, *, wanted: Wanted | None = None) -> Resolution:
        """Return the revision that ``uri`` means now, and its files with what the source promises of them.

        No file's bytes are fetched. All files of the revision are named, also those that ``wanted`` refuses, so
        that later lookups know what is missing. Only a refused one whose name may not become a path is left out;
        the resolution is then not complete.

        Raises:
            NotFoundError: the source has no such model, file or revision.
            AccessDeniedError: it wants a token, or another one.
            PolicyError: a name may not become a path, or a rule of the network forbids a request.
            TransferError: the network failed, or is forbidden (``OfflineError``).
        """
        ...


def find_source(scheme: str) -> type[Source]:
    """Return the adapter for a scheme.

    Raises:
        InvalidURIError: no installed package has one; the error names the schemes that exist.
        ConfigError: the package that has it cannot be imported.
    """
    found = _entry_points().get(scheme)
    if found is None:
        known = ", ".join(f"{name}://" for name in sorted(_entry_points()))
        raise InvalidURIError(
            f"{display(scheme, 40)}://…", f"no source for this scheme is installed (there are {known})", part=scheme
        )
    try:
        return cast("type[Source]", found.load())
    except (ImportError, AttributeError) as error:
        package = found.dist.name if found.dist is not None else found.value
        raise ConfigError(f"the source for {scheme}:// from {package} cannot be loaded: {error}") from error


@cache
def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}
