"""Reads one part of a file by hf_xet, in a process of its own, and writes its bytes to standard output.

Started by ``xet_reader``, as a script, so that nothing of modelcask is imported. On standard input comes one line of
JSON, and then nothing: when that ends, whoever wanted the bytes is gone. What went wrong is the last line on standard
error.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import tempfile
import threading
from collections.abc import Iterable
from typing import Any


def main() -> int:
    """Do the job that standard input names; return the exit code."""
    job = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    try:
        for piece in _pieces(job):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
    except BaseException as error:  # noqa: BLE001 - a panic in Rust is no Exception; all is told, and nothing goes on
        with contextlib.suppress(OSError):
            os.write(2, f"{type(error).__name__}: {error}".replace("\n", " ").encode())
        return 1
    return 0


def _pieces(job: dict[str, Any]) -> Iterable[bytes]:
    sys.path[:] = job["import_from"]
    # It makes an empty folder in its cache, though it keeps nothing there, and does not miss it afterwards.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache:
        os.environ["HF_XET_CACHE"] = cache
        hf_xet: Any = importlib.import_module("hf_xet")
        group = hf_xet.XetSession().new_download_stream_group(
            endpoint=job["endpoint"], token=job["token"], token_expiry_unix_secs=job["expires_at"]
        )
        info = hf_xet.XetFileInfo(job["hash"], job["size"])
        pieces: Iterable[bytes] = group.download_stream(info, start=job["start"], end=job["end"])
    return pieces


def _end_with_the_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    os._exit(main())  # without waiting for threads that may still wait for the network
