"""``pull --json``: what happens, one JSON object a line, each URI ending in one result or one error."""

from __future__ import annotations

import modelcask
from modelcask_cli import streams
from modelcask_cli.documents import ErrorEvent, ProgressEvent, ResultEvent, describe_file
from modelcask_cli.pulling import Outcome
from modelcask_cli.stopping import Stopped


class Events:
    """Prints events, and remembers how each URI ended."""

    def __init__(self) -> None:
        self._codes: dict[int, int] = {}
        self._unread: streams.OutputError | None = None

    @property
    def exit_code(self) -> int:
        """The exit code of the first URI, in the order given, that failed; 0 if none did."""
        return next((code for _, code in sorted(self._codes.items()) if code), 0)

    def close(self) -> None:
        """Raise what kept the events from being read, if anything did."""
        if self._unread is not None:
            raise self._unread

    def progress(self, index: int, event: modelcask.Progress) -> None:
        """Print how far a file is."""
        line: ProgressEvent = {
            "event": "progress",
            "index": index,
            "uri": event.uri,
            "path": event.path,
            "phase": event.phase,
            "bytes_done": event.bytes_done,
            "bytes_total": event.bytes_total,
            "bytes_resumed": event.bytes_resumed,
            "bytes_per_s": event.bytes_per_s,
            "seconds_left": event.seconds_left,
            "message": event.message,
        }
        self._tell(line)

    def end(self, outcome: Outcome) -> None:
        """Print how a URI ended."""
        snapshot = outcome.result
        if not isinstance(snapshot, modelcask.Snapshot):
            streams.say_error(snapshot)
            self.fail(outcome.index, outcome.uri, snapshot)
            return
        self._codes[outcome.index] = 0
        line: ResultEvent = {
            "event": "result",
            "index": outcome.index,
            "uri": snapshot.uri,
            "path": str(snapshot.path),
            "revision": snapshot.revision,
            "size_bytes": snapshot.size_bytes,
            "bytes_fetched": snapshot.bytes_fetched,
            "bytes_reused": snapshot.bytes_reused,
            "files": [describe_file(entry) for entry in snapshot.entries],
        }
        self._tell(line)

    def fail(self, index: int, uri: str, error: modelcask.CacheError | Stopped) -> None:
        """Print that a URI failed, unless its end was told before."""
        if index in self._codes:
            return
        self._codes[index] = error.exit_code
        stopped = isinstance(error, Stopped)
        line: ErrorEvent = {
            "event": "error",
            "index": index,
            "uri": uri,
            "error": type(error).__name__,
            "message": error.message if isinstance(error, Stopped) else str(error),
            "exit_code": error.exit_code,
            "retryable": stopped or (isinstance(error, modelcask.CacheError) and error.retryable),
        }
        self._tell(line)

    def _tell(self, line: ProgressEvent | ResultEvent | ErrorEvent) -> None:
        # Raised here it would end as an error of the pull; the bytes are wanted all the same.
        if self._unread is None:
            try:
                streams.tell_json(line, one_line=True)
            except streams.OutputError as error:
                self._unread = error
