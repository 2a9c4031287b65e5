"""One of many is cancelled: the others go on and end right."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from behaviours import Gate, HoldAfter
from cancelled import goes_on, leftovers
from modelcask.catalog.rows import Outcome
from modelcask.combination import combine_model_downloaders
from modelcask.downloader import DownloadState, create_model_downloader
from modelcask.manager import ModelCache
from origin import Origin

CONTENTS = [random.Random(number).randbytes(200_000) for number in range(3)]


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "not kept"])
async def test_one_model_of_several_is_cancelled(new_root: Path, cask: Path, origin: Origin, keep: bool) -> None:
    """In mid-transfer of all: the one has no path, the others have theirs, and each attempt says how it ended."""
    shutil.copytree(new_root, cask)
    gates = [Gate() for _ in CONTENTS]
    urls = [
        origin.add(f"/{number}", content, behaviours=[HoldAfter(100_000, gate)])
        for number, (content, gate) in enumerate(zip(CONTENTS, gates, strict=True))
    ]
    cache = ModelCache(cask)
    each = [create_model_downloader(url, cache=cache, keep_partial_on_cancel=keep) for url in urls]
    both = combine_model_downloaders(each)
    downloading = asyncio.create_task(both.download())
    for gate in gates:
        await asyncio.to_thread(gate.wait)
    each[1].cancel()
    while each[1].state is not DownloadState.CANCELLED:  # noqa: ASYNC110 - a state has no event
        await asyncio.sleep(0.002)
    assert [one.state for one in (each[0], each[2])] == [DownloadState.RUNNING] * 2
    for gate in gates:
        gate.open()
    paths = await downloading
    assert paths[1] is None
    for number in (0, 2):
        path = paths[number]
        assert path is not None
        assert path.read_bytes() == CONTENTS[number]
    ended = Counter((attempt.uri, attempt.outcome) for attempt in cache.list_attempts())
    cache.close()
    assert ended == {(urls[0], Outcome.DONE): 1, (urls[1], Outcome.CANCELLED): 1, (urls[2], Outcome.DONE): 1}
    assert len(list((cask / "partial").iterdir())) == keep
    assert leftovers(cask) == []
    await asyncio.to_thread(goes_on, cask, origin, "/1", CONTENTS[1])
