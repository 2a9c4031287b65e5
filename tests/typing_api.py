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
    token, gate = modelcask.CancelToken(), modelcask.Gate()
    access = modelcask.Access.of(tokens={"huggingface": "hf_..."}, headers={"X-Team": "ml"})
    with modelcask.ModelCache() as cache:
        cache.pull("hf://org/repo", cancel=token, gate=gate, access=access, keep_partial=False, request_id="job 7")
    try:
        modelcask.pull("https://host/model.gguf", progress=events.append, cancel=token)
    except modelcask.PullCancelledError as error:
        print(error.kept)
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


async def downloading_user() -> list[Path | None]:
    def show(event: modelcask.Progress) -> None:
        rate: float | None = event.bytes_per_s
        print(event.request_id, event.path, event.phase, event.bytes_done, rate, event.seconds_left)

    def show_all(job: modelcask.JobProgress) -> None:
        print(job.downloaded_size, job.total_size, job.done_files, job.total_files, job.bytes_per_s, job.seconds_left)

    downloader: modelcask.ModelDownloader = modelcask.create_model_downloader(
        "hf:org/repo:Q4_K_M",
        on_progress=show,
        headers={"X-Team": "ml"},
        tokens={"huggingface": "hf_..."},
        endpoints={"huggingface": "https://mirror.example"},
        parallel=4,
        keep_partial_on_cancel=False,
        request_id="job 7",
    )
    await downloader.prepare()
    size: int | None = downloader.total_size
    files: tuple[modelcask.FileInfo, ...] = downloader.files_info
    print(size, downloader.downloaded_size, downloader.total_files, [file.bytes_resumed for file in files])
    downloader.pause()
    downloader.resume()
    path: Path = await downloader.download(cancel=modelcask.CancelToken())
    state: modelcask.DownloadState = downloader.state
    failed: modelcask.CacheError | None = downloader.error
    print(path, state, failed, downloader.entrypoint_path, downloader.snapshot)
    other = modelcask.create_model_downloader("https://host/model.gguf", cache=modelcask.ModelCache())
    both: modelcask.CombinedDownloader = modelcask.combine_model_downloaders([downloader, other], on_progress=show_all)
    both.cancel()
    return await both.download()


if __name__ == "__main__":
    asyncio.run(async_user())
