"""Every JSON document that is printed: its fields, their types and what they mean.

docs/cli.md is written from here. A field keeps its name and meaning; new ones may come. Sizes are in bytes, times in
UTC as in ``2026-01-31T12:00:00Z``. Digests are ``algorithm:hex``. URLs carry no password and no query.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final, Literal, TypedDict

import modelcask


def time_text(at_us: int) -> str:
    """Return a time given in UTC microseconds as the documents write it."""
    return datetime.fromtimestamp(at_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class FileDocument(TypedDict):
    """One held file."""

    path: Annotated[str, "its name inside the revision"]
    size_bytes: Annotated[int | None, "null where it is not known"]
    blob: Annotated[str | None, "the BLAKE3 digest of its bytes; null if they are not held"]
    trust: Annotated[str | None, "how they were proved: `pinned`, `upstream-sha256`, `git-sha1` or `first-use`"]
    promised: Annotated[list[str], "the digests that the source promised"]


class ProgressEvent(TypedDict):
    """A line of `pull`: how far a file is. At most ten a second for each file."""

    event: Literal["progress"]
    index: Annotated[int, "which URI of the command line, from 0"]
    uri: Annotated[str, "its canonical form"]
    path: Annotated[str, "the file; empty while the URI as a whole is looked at"]
    phase: Annotated[
        str,
        "`resolving`, `waiting`, `checking`, `downloading`, `retrying`, `verifying`, `publishing`, `done`, `reused`, "
        "`failed` or `cancelled`",
    ]
    bytes_done: Annotated[int, "what is on disk and hashed, resumed bytes included"]
    bytes_total: Annotated[int | None, "null where the size is not known"]
    bytes_resumed: Annotated[int, "how many of `bytes_done` were here before"]
    bytes_per_s: Annotated[float | None, "how fast the file comes; null while it does not"]
    seconds_left: Annotated[float | None, "when it will be there at that rate; null where nobody knows"]
    message: Annotated[str, "why, for `retrying`, `waiting` and `failed`"]


class ResultEvent(TypedDict):
    """A line of `pull`: a URI is cached. Each URI ends in just one result or error."""

    event: Literal["result"]
    index: Annotated[int, "which URI of the command line, from 0"]
    uri: Annotated[str, "its canonical form"]
    path: Annotated[str, "the local file, or the folder for a URI that means several"]
    revision: Annotated[str, "the immutable version at the source"]
    size_bytes: Annotated[int, "the size of the files together"]
    bytes_fetched: Annotated[int, "what came over the network, or was copied from a local file"]
    bytes_reused: Annotated[int, "what the store already held"]
    files: Annotated[list[FileDocument], "the files that the URI means"]


class ErrorEvent(TypedDict):
    """A line of `pull`: a URI could not be pulled."""

    event: Literal["error"]
    index: Annotated[int, "which URI of the command line, from 0"]
    uri: Annotated[str, "its canonical form, or what was written if it cannot be read"]
    error: Annotated[str, "the error's name, as in the table of exit codes; `Stopped` after a signal"]
    message: Annotated[str, "what happened and what to do next"]
    exit_code: Annotated[int, "the exit code of this error alone"]
    retryable: Annotated[bool, "whether the same pull may succeed later with nothing changed here"]


class ListedSnapshot(TypedDict):
    """One revision of which something is held."""

    uri: Annotated[str, "a URI that means it, as short as it can be"]
    source: Annotated[str, "the canonical URI of its source"]
    revision: Annotated[str, "the immutable version at the source"]
    refs: Annotated[list[str], "the movable names that point to it now"]
    listed: Annotated[bool, "whether `files_known` is all that the source has"]
    files_held: Annotated[int, "how many files are held"]
    files_known: Annotated[int, "how many files are known"]
    files_damaged: Annotated[int, "how many of the held ones are missing or in quarantine"]
    size_bytes: Annotated[int, "the size of the held files together"]
    added_at: Annotated[str, "when it was pulled first"]
    used_at: Annotated[str, "when it was last used, to about an hour"]
    trust: Annotated[list[str], "how its files were proved, the strongest first"]


class ListDocument(TypedDict):
    """What `ls --json` prints."""

    snapshots: Annotated[list[ListedSnapshot], "in the order asked for"]


class ShownFileDocument(FileDocument):
    """One known file of a revision, held or not."""

    state: Annotated[str | None, "`present`, `condemned`, `trash`, `missing` or `quarantined`; null if it is not held"]


class ShowDocument(TypedDict):
    """What `show --json` prints."""

    uri: Annotated[str, "the canonical URI"]
    source: Annotated[str, "the canonical URI of its source"]
    revision: Annotated[str, "the immutable version at the source"]
    listed: Annotated[bool, "whether `files` is all that the source has"]
    folder: Annotated[str, "where the snapshot lies"]
    files: Annotated[list[ShownFileDocument], "every known file, held or not"]


class RemovalDocument(TypedDict):
    """What is removed for one URI."""

    uri: Annotated[str, "the canonical URI"]
    source: Annotated[str, "the canonical URI of its source"]
    revision: Annotated[str, "the immutable version at the source"]
    paths: Annotated[list[str], "the files that are forgotten"]
    bytes_freed: Annotated[int, "bytes deleted; with `--dry-run`, bytes that nothing else holds"]
    bytes_shared: Annotated[int, "bytes that stay, because other revisions hold them too"]
    in_use: Annotated[list[str], "blobs that stay until the processes that use them end"]


class RemoveDocument(TypedDict):
    """What `rm --json` prints."""

    dry_run: Annotated[bool, "whether nothing was changed"]
    removals: Annotated[list[RemovalDocument], "one for each URI of which something was held"]


class PlannedFileDocument(TypedDict):
    """One file that a pull would make held."""

    path: Annotated[str, "its name inside the revision"]
    size_bytes: Annotated[int | None, "null where it is not known"]
    promised: Annotated[list[str], "the digests that the source promises"]
    held: Annotated[bool, "whether its bytes are here already, so that they cost nothing"]


class ExplainDocument(TypedDict):
    """What `explain --json` prints."""

    uri: Annotated[str, "the canonical URI"]
    notes: Annotated[list[str], "how it was read, a sentence each"]
    source: Annotated[str, "the canonical URI of its source"]
    ref: Annotated[str | None, "the movable name that is meant; null beside `revision`"]
    revision: Annotated[str | None, "the immutable version that is meant; null beside `ref`"]
    path: Annotated[str, "the path inside the source; empty for all of it"]
    pin: Annotated[str | None, "the digest that the bytes must have"]
    local_path: Annotated[str | None, "where it is cached; null unless all of it is"]
    files_held: Annotated[int, "how many files of its revision are held"]
    files_known: Annotated[int, "how many files of its revision are known"]
    listed: Annotated[bool, "whether `files_known` is all that the source has"]
    to_pull: Annotated[
        list[PlannedFileDocument] | None, "what a pull would make held; null if it is cached or cannot be told"
    ]
    bytes_to_fetch: Annotated[int | None, "what a pull would transfer; null if it cannot be told"]
    reason: Annotated[str | None, "why the source could not be asked"]


class AttemptDocument(TypedDict):
    """One try to make one file held."""

    request_id: Annotated[str, "what names the pull; the same for all its files"]
    uri: Annotated[str, "the canonical URI that was pulled"]
    source: Annotated[str, "the canonical URI of its source"]
    path: Annotated[str, "the file's name inside the source"]
    started_at: Annotated[str, "when it began"]
    finished_at: Annotated[str | None, "null while it goes on, and if it was interrupted: nobody knows when"]
    seconds: Annotated[float | None, "how long it took; null as for `finished_at`"]
    outcome: Annotated[
        str | None, "`done`, `failed`, `cancelled`, or `interrupted` if its process died; null while it goes on"
    ]
    bytes_fetched: Annotated[int, "what came over the network, or was copied from a local file"]
    bytes_reused: Annotated[int, "what the store, or a kept partial, already held"]
    error: Annotated[str | None, "the error's name, as in the table of exit codes; null unless it failed"]


class LogDocument(TypedDict):
    """What `log --json` prints."""

    attempts: Annotated[list[AttemptDocument], "the newest first"]


class StatsDocument(TypedDict):
    """What `stats --json` prints."""

    since: Annotated[str | None, "when the first of the attempts began; null if there is none"]
    pulls: Annotated[int, "how many pulls were asked for"]
    files: Annotated[int, "how many files they asked for, each time counted"]
    hits: Annotated[int, "how many of these were had without a byte fetched"]
    hit_rate: Annotated[float | None, "`hits` by `files`, from 0 to 1; null without files"]
    running: Annotated[int, "how many are on their way"]
    outcomes: Annotated[dict[str, int], "how many files ended `done`, `failed`, `cancelled` and `interrupted`"]
    failures: Annotated[dict[str, int], "how many failed with which error, the most frequent first"]
    bytes_fetched: Annotated[int, "what came over the network, or was copied from local files"]
    bytes_hit: Annotated[int, "what the hits would have cost"]
    bytes_resumed: Annotated[int, "what the others found kept from earlier attempts"]
    blobs: Annotated[int, "how many blobs the store has now"]
    bytes_stored: Annotated[int, "their size together"]
    bytes_without_dedup: Annotated[int, "what the held files would take if each had its bytes to itself"]
    bytes_saved: Annotated[int, "how much of that is saved because equal files share a blob"]


class PartialDocument(TypedDict):
    """One unfinished download."""

    key: Annotated[str, "the name of its folder in `partial/`; `partials drop` takes it"]
    uri: Annotated[str | None, "what to pull to go on; null where no URI means just that"]
    source: Annotated[str | None, "the canonical URI of its source; null where it is not known what it is of"]
    revision: Annotated[str | None, "the immutable version at the source; null where it is not known"]
    path: Annotated[str | None, "the file's name inside the source; null where it is not known"]
    state: Annotated[
        str,
        "`resumable`; `sealed`: complete, lacks only its record; `useless`: a pull starts over; `damaged`: as useless, "
        "because what it is of cannot be read; `foreign`: not made by modelcask",
    ]
    in_use: Annotated[bool, "whether a process is at it now"]
    size_bytes: Annotated[int | None, "the size of the whole file; null where it is not known"]
    bytes_kept: Annotated[int, "what of it is kept; checked when it is taken up"]
    bytes_on_disk: Annotated[int, "what dropping it would free"]
    changed_at: Annotated[str, "when it was last written to"]


class PartialsDocument(TypedDict):
    """What `partials --json` prints."""

    partials: Annotated[list[PartialDocument], "the last changed first"]


class DropDocument(TypedDict):
    """What `partials drop --json` prints."""

    dropped: Annotated[list[PartialDocument], "those that were deleted, as they were"]
    kept: Annotated[list[PartialDocument], "those that stay: somebody is at them, or they are foreign"]
    bytes_freed: Annotated[int, "what the disk has more now"]


class UseDocument(TypedDict):
    """Where a blob is needed."""

    source: Annotated[str, "the canonical URI of the source"]
    revision: Annotated[str, "the immutable version at the source"]
    path: Annotated[str, "the file's name inside the revision"]


class FaultDocument(TypedDict):
    """One blob that is not as it should be."""

    blob: Annotated[str, "its BLAKE3 digest"]
    size_bytes: Annotated[int, "the size it should have"]
    verdict: Annotated[str, "`damaged`, `missing` or `unreadable`"]
    uses: Annotated[list[UseDocument], "where it is needed"]


class VerifyDocument(TypedDict):
    """What `verify --json` prints."""

    blobs_checked: Annotated[int, "how many blobs were looked at"]
    bytes_checked: Annotated[int, "their size together"]
    faults: Annotated[list[FaultDocument], "those that are not as they should be"]


class RebuildDocument(TypedDict):
    """What `rebuild --json` prints."""

    blobs: Annotated[int, "how many blobs were hashed and recorded"]
    size_bytes: Annotated[int, "their size together"]
    revisions: Annotated[int, "how many revisions were restored"]
    entries: Annotated[int, "how many of their files are held"]
    missing: Annotated[list[str], "files of manifests whose blob is not there: source and path"]
    refused: Annotated[list[str], "files that cannot be believed, each with the reason"]
    former_catalog: Annotated[str | None, "where the catalog that was replaced is kept"]


class CheckDocument(TypedDict):
    """One finding of `doctor`."""

    name: Annotated[str, "what was looked at"]
    health: Annotated[str, "`ok`, `warning` or `failure`"]
    detail: Annotated[str, "what was found, and what to do"]


class DoctorDocument(TypedDict):
    """What `doctor --json` prints."""

    checks: Annotated[list[CheckDocument], "every finding"]


class SettingDocument(TypedDict):
    """One setting in force."""

    name: Annotated[str, "its name in the config file"]
    value: Annotated[str | int | float | bool | None, "what is in force"]
    origin: Annotated[str, "`default`, `argument`, the variable, or the path of the config file"]
    variable: Annotated[str, "the environment variable that sets it"]


class ConfigDocument(TypedDict):
    """What `config --json` prints."""

    config_file: Annotated[str, "the path of the config file"]
    config_file_exists: Annotated[bool, "whether it is there"]
    settings: Annotated[list[SettingDocument], "every setting"]


PRINTED: Final[dict[str, tuple[type, ...]]] = {
    "pull": (ProgressEvent, ResultEvent, ErrorEvent),
    "ls": (ListDocument,),
    "show": (ShowDocument,),
    "rm": (RemoveDocument,),
    "explain": (ExplainDocument,),
    "log": (LogDocument,),
    "stats": (StatsDocument,),
    "partials": (PartialsDocument, DropDocument),
    "verify": (VerifyDocument,),
    "rebuild": (RebuildDocument,),
    "config": (ConfigDocument,),
    "doctor": (DoctorDocument,),
}
"""What each command prints with ``--json``."""


def describe_file(entry: modelcask.Entry | modelcask.ShownFile) -> FileDocument:
    """Return the document of one file."""
    return {
        "path": entry.path,
        "size_bytes": entry.size_bytes,
        "blob": None if entry.blob is None else str(entry.blob),
        "trust": entry.trust,
        "promised": [str(digest) for digest in entry.promised],
    }
