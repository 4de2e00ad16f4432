"""One extraction on several devices of a machine: a process for each embeds a shard, and the shards are joined."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from amr.common.cluster.progress import JoinedProgress, SentProgress
from amr.common.options import available_cores
from amr.common.processes import SPAWN, begin_process, cause_of_death, end_process, portable, start_process, starting
from amr.common.progress import Progress
from amr.extract.config import ExtractConfig
from amr.extract.shards.join import Begun, Divided, Extract, join_shards, shard_configs

if TYPE_CHECKING:
    from amr.extract.run import ExtractResult


def extract_on_devices(config: ExtractConfig, divided: Divided, progress: Progress, extract: Extract) -> ExtractResult:
    """Embed a shard on each device, in a process of its own, and join the shards.

    Args:
        config: Config with several devices.
        divided: Clips of the extraction.
        progress: Listener of the progress of all shards.
        extract: Function that embeds one shard.

    Raises:
        RuntimeError: A process died. Finished clips are saved.
        Exception: Whatever a process raises. The others are ended.
    """
    began, count = time.perf_counter(), len(config.devices)
    cores = available_cores() if config.workers is None else config.workers
    workers = cores and max(1, cores // count)
    shards = [
        (replace(each, device=device, workers=workers), begun)
        for (each, begun), device in zip(shard_configs(config, count, divided), config.devices, strict=True)
    ]
    results = _run_all(shards, extract, JoinedProgress(progress, divided.num_present, count))
    return join_shards(config, results, progress, time.perf_counter() - began)


def _run_all(
    shards: Sequence[tuple[ExtractConfig, Begun]], extract: Extract, joined: JoinedProgress
) -> list[ExtractResult]:
    """Embed each shard in a process. The first that fails, and Ctrl-C, ends all."""
    results: dict[int, ExtractResult] = {}
    processes: list[Any] = []
    receivers: dict[Any, int] = {}
    try:
        for index, (config, begun) in enumerate(shards):
            with starting():
                receiver, sender = SPAWN.Pipe(duplex=False)
                with sender:  # it is closed here, so that its end is the process's end
                    processes.append(start_process(_run, sender, extract, config, begun, context=SPAWN, daemon=False))
            receivers[receiver] = index
        while receivers:
            ready: list[Any] = wait([*receivers])
            for receiver in ready:
                index = receivers[receiver]
                try:
                    kind, values = receiver.recv()
                except (EOFError, OSError):
                    processes[index].join()
                    raise _died(shards[index][0], processes[index].exitcode) from None
                if kind == "error":
                    raise values[0]
                if kind == "result":
                    results[index] = values[0]
                    del receivers[receiver]
                    receiver.close()
                else:
                    joined.take(index, (kind, values))
    except Exception:
        if joined.has_started:
            joined.progress.note("a device failed, so the others were stopped. Finished clips of all are saved.")
        raise
    finally:
        joined.progress.stop()
        for process in processes:
            end_process(process)
        for receiver in receivers:
            receiver.close()
    return [results[index] for index in range(len(shards))]


def _died(config: ExtractConfig, exitcode: int | None) -> RuntimeError:
    return RuntimeError(
        f"the process of --device {config.device} must stay alive, got {cause_of_death(exitcode)} "
        f"(memory may be short). Run the same command to continue with shard {config.shard}."
    )


def _run(parent: int, sender: Any, extract: Extract, config: ExtractConfig, begun: Begun) -> None:
    """Embed a shard, and send its progress and its result."""
    begin_process(parent)
    try:
        result = extract(config, SentProgress(sender.send), begun)
    except Exception as error:
        sender.send(("error", (portable(error),)))
    else:
        sender.send(("result", (result,)))
