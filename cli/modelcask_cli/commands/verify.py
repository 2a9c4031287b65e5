"""``modelcask verify``."""

from __future__ import annotations

import time
from collections.abc import Sequence

import click

import modelcask
from modelcask_cli import streams, words
from modelcask_cli.app import examples, load_settings
from modelcask_cli.names import file_uri
from modelcask_cli.options import complete_uri, json_option, quiet_option
from modelcask_cli.progress.work import working

_MOST_USES = 5


@click.command(epilog=examples("modelcask verify", "modelcask verify hf://org/repo --json"))
@click.argument("uris", metavar="[URI...]", nargs=-1, shell_complete=complete_uri)
@json_option
@quiet_option
def command(uris: tuple[str, ...], as_json: bool, quiet: bool) -> int:
    """Hash what is held again, and tell what is damaged.

    Without a URI, all that is held. Exit 4 while anything is damaged or missing. What is damaged is moved to
    quarantine, where it is kept, and is never served; a pull fetches it again.
    """
    began = time.monotonic()
    checked = checked_bytes = 0
    faults: list[modelcask.Verified] = []
    with modelcask.ModelCache(settings=load_settings()) as cache, working(quiet=quiet) as show:

        def starting(digest: modelcask.Digest, size_bytes: int) -> None:
            done = f"{words.count(checked, 'blob')} hashed, {words.size(checked_bytes)}"
            show(f"{done}; now {digest.hex[:12]}, {words.size(size_bytes)}")

        for found in cache.verify(*uris, started=starting):
            checked += 1
            checked_bytes += found.size_bytes
            if found.verdict is not modelcask.Verdict.OK:
                faults.append(found)
    if as_json:
        _tell_json(checked, checked_bytes, faults)
    else:
        for fault in faults:
            _tell_fault(fault)
        if not quiet:
            took = words.duration(time.monotonic() - began)
            good = f"{len(faults):,} of them not as they should be" if faults else "all as they should be"
            streams.say(f"{words.count(checked, 'blob')}, {words.size(checked_bytes)}, {took}: {good}")
    return _exit_code(faults)


def _exit_code(faults: Sequence[modelcask.Verified]) -> int:
    verdicts = {fault.verdict for fault in faults}
    if verdicts & {modelcask.Verdict.DAMAGED, modelcask.Verdict.MISSING}:
        return modelcask.VerificationError.exit_code
    return modelcask.StorageError.exit_code if verdicts else 0


def _tell_fault(fault: modelcask.Verified) -> None:
    streams.tell(f"{fault.verdict}  {fault.digest}  {words.size(fault.size_bytes)}")
    for source, revision, path in fault.uses[:_MOST_USES]:
        shown = words.short_revision(modelcask.display(revision))
        streams.tell(f"    used by {source}, revision {shown}: {modelcask.display(path)}")
    more = len(fault.uses) - _MOST_USES
    if more > 0:
        streams.tell(f"    and {more:,} more")
    if fault.verdict is modelcask.Verdict.UNREADABLE:
        streams.tell("    the disk could not be read, or the file was replaced meanwhile: verify again, check the disk")
    elif fault.uses:
        streams.tell(f"    fetch it again: modelcask pull {file_uri(*fault.uses[0])}")
    else:
        streams.tell("    nothing needs it")


def _tell_json(checked: int, checked_bytes: int, faults: Sequence[modelcask.Verified]) -> None:
    from modelcask_cli.documents import VerifyDocument  # noqa: PLC0415

    document: VerifyDocument = {
        "blobs_checked": checked,
        "bytes_checked": checked_bytes,
        "faults": [
            {
                "blob": str(fault.digest),
                "size_bytes": fault.size_bytes,
                "verdict": fault.verdict,
                "uses": [
                    {"source": source, "revision": revision, "path": path} for source, revision, path in fault.uses
                ],
            }
            for fault in faults
        ],
    }
    streams.tell_json(document)
