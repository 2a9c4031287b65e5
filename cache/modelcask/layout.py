"""Every path under the cache root, and nothing else.

::

    FORMAT                                       layout version, store uuid, permission policy
    CACHEDIR.TAG                                 so that backup tools pass it over
    blobs/b3/<2 hex>/<64 hex>                    mode 0444
    partial/<key>/{data,journal,meta}
    snapshots/<source slug>/<revision slug>/<path>
    manifests/<source slug>/<revision slug>.json
    trash/<run>/<hex>
    quarantine/<hex>.<time>
    sessions/<uuid>
    locks/{gc,schema,writer,room,blob-00..ff,uri-<key>}
    locks/room-<uuid>                            what the process of that session has reserved of the free space
    catalog.db  backups/                         rebuild.db beside it while it is being rebuilt
    reserve                                      room for what has to work on a full disk
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from modelcask.digest import Digest

LAYOUT_VERSION: Final = 1

_PLAIN_REVISION = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}", re.ASCII)
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+", re.ASCII)


@lru_cache(maxsize=4096)
def slug(text: str) -> str:
    """Return a folder name for ``text``: readable, unique by a hash, safe on every file system.

    The hash makes two texts that differ only in case or in replaced characters two names.
    """
    readable = _UNSAFE.sub("-", text).strip("-.")[:80].rstrip("-.")
    return f"{readable}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def revision_slug(revision: str) -> str:
    """Return a folder name for a revision's key: a commit stays as it is."""
    return revision if _PLAIN_REVISION.fullmatch(revision) else slug(revision)


def ingest_key(*, expected: Digest | None, source: str, revision: str | None, path: str) -> str:
    """Return the key under which one file is ingested, the same in every process.

    Two URIs that promise the same sha256 share it, so that the file is fetched once. Without a promise the
    place at the source is the identity.
    """
    if expected is not None:
        return expected.hex
    text = "\0".join((source, revision or "", path))
    return "u" + hashlib.sha256(text.encode()).hexdigest()[:63]


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one root."""

    root: Path
    catalog_name: str = "catalog"
    """Another name while a catalog is being rebuilt beside the one in use."""

    @property
    def format_file(self) -> Path:
        """The file that says what this folder is."""
        return self.root / "FORMAT"

    @property
    def cachedir_tag(self) -> Path:
        """The tag of bford.info/cachedir."""
        return self.root / "CACHEDIR.TAG"

    @property
    def blobs(self) -> Path:
        """The folder of the 256 blob folders."""
        return self.root / "blobs" / "b3"

    def blob(self, digest: Digest) -> Path:
        """Return where the blob lies or would lie."""
        return Path(f"{self.root}/blobs/b3/{digest.hex[:2]}/{digest.hex}")  # one parse instead of five

    @property
    def partials(self) -> Path:
        """The folder of unfinished ingests."""
        return self.root / "partial"

    def partial(self, key: str) -> Path:
        """Return the folder of one unfinished ingest."""
        return self.partials / key

    @property
    def snapshots(self) -> Path:
        """The folder of all snapshot folders."""
        return self.root / "snapshots"

    def snapshot(self, source: str, revision: str) -> Path:
        """Return the folder of links that lookups hand out for one revision."""
        return Path(f"{self.root}/snapshots/{slug(source)}/{revision_slug(revision)}")  # lookups pass here

    @property
    def manifests(self) -> Path:
        """The folder of all manifests."""
        return self.root / "manifests"

    def manifest(self, source: str, revision: str) -> Path:
        """Return the file from which the catalog's rows of one revision can be made again."""
        return self.manifests / slug(source) / f"{revision_slug(revision)}.json"

    @property
    def trash(self) -> Path:
        """The folder of condemned blobs that can still be had back."""
        return self.root / "trash"

    @property
    def quarantine(self) -> Path:
        """The folder of damaged blobs."""
        return self.root / "quarantine"

    @property
    def sessions(self) -> Path:
        """The folder of lease files, one for each live process."""
        return self.root / "sessions"

    @property
    def locks(self) -> Path:
        """The folder of lock files."""
        return self.root / "locks"

    @property
    def gc_lock(self) -> Path:
        """Held by the one collector."""
        return self.locks / "gc"

    @property
    def schema_lock(self) -> Path:
        """Held shared while the catalog is open, exclusively while its schema changes or it is replaced."""
        return self.locks / ("schema" if self.catalog_name == "catalog" else f"schema-{self.catalog_name}")

    @property
    def writer_lock(self) -> Path:
        """Held around every write transaction and checkpoint of the catalog."""
        return self.locks / "writer"

    @property
    def room_lock(self) -> Path:
        """Held while room is counted and reserved."""
        return self.locks / "room"

    def reservations(self, session: str) -> Path:
        """Return the file that says what the process with this session has reserved of the free space."""
        return self.locks / f"room-{session}"

    def blob_lock(self, digest: Digest) -> Path:
        """Return the stripe lock under which a blob's name or state changes."""
        return self.locks / f"blob-{digest.hex[:2]}"

    def key_lock(self, key: str) -> Path:
        """Return the single-flight lock of an ingest key."""
        return self.locks / f"uri-{key}"

    @property
    def catalog(self) -> Path:
        """The SQLite database."""
        return self.root / f"{self.catalog_name}.db"

    @property
    def backups(self) -> Path:
        """The folder of catalog copies made before an upgrade."""
        return self.root / "backups"

    @property
    def reserve(self) -> Path:
        """The file whose room is given up on a full disk."""
        return self.root / "reserve"
