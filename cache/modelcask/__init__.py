"""Every model file on this machine stored once, proved correct, found by its URI.

::

    import modelcask

    path = modelcask.get("hf://org/repo/model.safetensors")     # cached, else downloaded
    path = modelcask.lookup("hf://org/repo/model.safetensors")  # Path or None; never the network
    [snapshot] = modelcask.pull("hf://org/repo", include=["*.json"])

    downloader = modelcask.create_model_downloader("hf:org/repo:Q4_K_M", on_progress=show)
    both = modelcask.combine_model_downloaders([downloader, other])
    paths = await both.download()                               # cancel(), pause() and resume() from any thread

:class:`ModelCache` is the same with a root and settings of your own. Errors are drawn in
:mod:`modelcask.errors`. Names are resolved on first use, so that importing modelcask stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelcask.access import Access
    from modelcask.api import get, get_async, lookup, lookup_async, pull, pull_async
    from modelcask.cancellation import CancelToken
    from modelcask.catalog.rows import AttemptRow, Outcome, SnapshotRow, Statistics
    from modelcask.combination import CombinedDownloader, JobProgress, combine_model_downloaders
    from modelcask.config import Setting, Settings, config_file, explain_settings, load_settings
    from modelcask.diagnosis import Check, Health
    from modelcask.digest import Digest
    from modelcask.downloader import DownloadState, FileInfo, ModelDownloader, create_model_downloader
    from modelcask.errors import (
        AccessDeniedError,
        BusyError,
        CacheError,
        ConfigError,
        ConnectionInterruptedError,
        CorruptStoreError,
        DigestMismatchError,
        InvalidDigestError,
        InvalidInputError,
        InvalidURIError,
        ModelNotFoundError,
        NotCachedError,
        NotFoundError,
        OfflineError,
        PolicyError,
        PullCancelledError,
        RemoteChangedError,
        ResponseError,
        RevisionNotFoundError,
        SchemaVersionError,
        SizeMismatchError,
        StorageError,
        StoreFullError,
        TransferError,
        TransferTimeoutError,
        VerificationError,
    )
    from modelcask.explanation import Explanation, PlannedFile, ShownFile, SnapshotDetail
    from modelcask.fetch.gate import Gate
    from modelcask.manager import ModelCache
    from modelcask.partials import DroppedPartials, PartialFile, PartialState
    from modelcask.printable import SafeURL, display
    from modelcask.rebuilding import Rebuilt
    from modelcask.removal import Removal, RemovalPlan
    from modelcask.types import Entry, Phase, Progress, ReplicaState, Snapshot, TrustLevel
    from modelcask.uri import ModelURI, parse_uri
    from modelcask.verification import Verdict, Verified

__all__ = [
    "Access",
    "AccessDeniedError",
    "AttemptRow",
    "BusyError",
    "CacheError",
    "CancelToken",
    "Check",
    "CombinedDownloader",
    "ConfigError",
    "ConnectionInterruptedError",
    "CorruptStoreError",
    "Digest",
    "DigestMismatchError",
    "DownloadState",
    "DroppedPartials",
    "Entry",
    "Explanation",
    "FileInfo",
    "Gate",
    "Health",
    "InvalidDigestError",
    "InvalidInputError",
    "InvalidURIError",
    "JobProgress",
    "ModelCache",
    "ModelDownloader",
    "ModelNotFoundError",
    "ModelURI",
    "NotCachedError",
    "NotFoundError",
    "OfflineError",
    "Outcome",
    "PartialFile",
    "PartialState",
    "Phase",
    "PlannedFile",
    "PolicyError",
    "Progress",
    "PullCancelledError",
    "Rebuilt",
    "RemoteChangedError",
    "Removal",
    "RemovalPlan",
    "ReplicaState",
    "ResponseError",
    "RevisionNotFoundError",
    "SafeURL",
    "SchemaVersionError",
    "Setting",
    "Settings",
    "ShownFile",
    "SizeMismatchError",
    "Snapshot",
    "SnapshotDetail",
    "SnapshotRow",
    "Statistics",
    "StorageError",
    "StoreFullError",
    "TransferError",
    "TransferTimeoutError",
    "TrustLevel",
    "Verdict",
    "VerificationError",
    "Verified",
    "combine_model_downloaders",
    "config_file",
    "create_model_downloader",
    "display",
    "explain_settings",
    "get",
    "get_async",
    "load_settings",
    "lookup",
    "lookup_async",
    "parse_uri",
    "pull",
    "pull_async",
]

_ELSEWHERE = {
    "access": ("Access",),
    "api": ("get", "get_async", "lookup", "lookup_async", "pull", "pull_async"),
    "cancellation": ("CancelToken",),
    "catalog.rows": ("AttemptRow", "Outcome", "SnapshotRow", "Statistics"),
    "combination": ("CombinedDownloader", "JobProgress", "combine_model_downloaders"),
    "config": ("Setting", "Settings", "config_file", "explain_settings", "load_settings"),
    "diagnosis": ("Check", "Health"),
    "digest": ("Digest",),
    "downloader": ("DownloadState", "FileInfo", "ModelDownloader", "create_model_downloader"),
    "fetch.gate": ("Gate",),
    "partials": ("DroppedPartials", "PartialFile", "PartialState"),
    "printable": ("SafeURL", "display"),
    "explanation": ("Explanation", "PlannedFile", "ShownFile", "SnapshotDetail"),
    "manager": ("ModelCache",),
    "rebuilding": ("Rebuilt",),
    "removal": ("Removal", "RemovalPlan"),
    "types": ("Entry", "Phase", "Progress", "ReplicaState", "Snapshot", "TrustLevel"),
    "uri": ("ModelURI", "parse_uri"),
    "verification": ("Verdict", "Verified"),
}
_HOME = {name: module for module, names in _ELSEWHERE.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'modelcask' has no attribute {name!r}")
    value = getattr(import_module(f"modelcask.{_HOME.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
