"""A user's file, never run: type checkers read it against the installed package."""

from __future__ import annotations

import asyncio
from pathlib import Path

import modelcask


def sync_user() -> Path | None:
    path: Path = modelcask.get("hf://org/repo/model.safetensors")
    found: Path | None = modelcask.lookup("hf://org/repo/model.safetensors")
    events: list[modelcask.Progress] = []
    with modelcask.ModelCache(root="/tmp/cask") as cache:
        [snapshot] = cache.pull("hf://org/repo", include=["*.safetensors"], progress=events.append)
        sizes: list[int | None] = [entry.size_bytes for entry in snapshot.entries]
        rows: list[modelcask.SnapshotRow] = cache.list_snapshots(sort="size")
        failed: list[modelcask.AttemptRow] = cache.list_attempts("*.gguf", outcomes=[modelcask.Outcome.FAILED], limit=9)
        rate: float | None = cache.statistics(since=0).hit_rate
        print([row.error_class for row in failed], rate)
        unfinished: list[modelcask.PartialFile] = cache.list_partials("hf://org/repo")
        dropped: modelcask.DroppedPartials = cache.drop_partials(
            one for one in unfinished if one.state is not modelcask.PartialState.RESUMABLE
        )
        print(dropped.bytes_freed)
        plan: modelcask.RemovalPlan = cache.plan_removal("hf://org/repo")
        freed: int = cache.remove(plan).bytes_freed
        for verified in cache.verify():
            verdict: modelcask.Verdict = verified.verdict
            print(verdict, sizes, rows, freed)
    try:
        modelcask.pull("https://host/model.gguf")
    except modelcask.StoreFullError as error:
        print(error.needed - error.available)
    except modelcask.TransferError as error:
        print(error.bytes_kept, error.retryable)
    except modelcask.CacheError as error:
        print(error.exit_code)
    return found or path


async def async_user() -> None:
    async with modelcask.ModelCache(settings=modelcask.load_settings(offline=True)) as cache:
        snapshots: list[modelcask.Snapshot] = await cache.pull_async("https://host/a.gguf", "hf://org/repo")
        explanation: modelcask.Explanation = await cache.explain_async("hf:org/repo:Q4_K_M")
        fetch: int | None = explanation.bytes_to_fetch
        print(snapshots, fetch)


if __name__ == "__main__":
    asyncio.run(async_user())
