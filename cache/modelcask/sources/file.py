"""``file://``: a regular file of this machine, taken into the store like any other."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes, urlsplit

from modelcask.config import Settings
from modelcask.errors import AccessDeniedError, CacheError, InvalidURIError, ModelNotFoundError, StorageError
from modelcask.sources import Wanted
from modelcask.types import FileLocation, RemoteFile, Resolution
from modelcask.uri import ModelURI

if TYPE_CHECKING:
    from modelcask.net.client import Client


class FileSource:
    """Resolve a local file to what ``stat`` says of it now."""

    needs_network = False

    def __init__(self, settings: Settings, client: Client | None) -> None:
        del settings, client

    async def resolve(self, uri: ModelURI, *, wanted: Wanted | None = None) -> Resolution:  # noqa: ARG002 - one file
        """Return the file; its revision is inode, size and modification time, so an edit is a new revision.

        Symlinks are followed. The file is not opened.

        Raises:
            ModelNotFoundError: there is no such file.
            InvalidURIError: it is a folder, a pipe, a device or a socket.
            AccessDeniedError: a folder on the way may not be entered.
            StorageError: the disk failed.
        """
        path = Path(os.fsdecode(unquote_to_bytes(urlsplit(uri.fetch_url or uri.source).path)))
        try:
            found = await asyncio.to_thread(path.stat)
        except OSError as error:
            raise _explained(uri, error) from error
        if not stat.S_ISREG(found.st_mode):
            kind = "a folder" if stat.S_ISDIR(found.st_mode) else "no regular file"
            raise InvalidURIError(uri.canonical, f"it is {kind}: name one file", part=uri.path)
        digests = () if uri.pin is None else (uri.pin,)
        file = RemoteFile(uri.path, found.st_size, digests, FileLocation(path))
        revision = f"stat:{found.st_ino:x}-{found.st_size:x}-{found.st_mtime_ns:x}"
        return Resolution(uri, revision, (file,), complete=True)


def _explained(uri: ModelURI, error: OSError) -> CacheError:
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return ModelNotFoundError(uri.canonical, f"{uri.canonical}: there is no such file; check the path")
    if isinstance(error, PermissionError):
        return AccessDeniedError(f"{uri.canonical}: you may not reach this file; check the rights of its folders")
    return StorageError(f"{uri.canonical} cannot be reached: {error.strerror}")
