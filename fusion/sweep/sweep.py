"""Many runs on one cache: `amr sweep`. Runs of one recipe are trained together; on a CPU, a group a core at once.

A sweep's folder holds sweep.json (what was asked), runs/ (a run folder each) and results.csv (a row a run and part).
A run is finished once its metrics.json is there; the same command goes on with what is missing.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from amr.common.devices import choose_device
from amr.common.workspace import find_cache, runs_dir
from amr.extract.cache.reader import Cache
from amr.fusion.config import FitConfig, SweepConfig
from amr.fusion.data.folds import Source, open_source
from amr.fusion.fit import fit_group, member_of, recipe_of, record_of, resolve, takes_steps
from amr.fusion.methods import methods
from amr.fusion.runs.measure import Measures
from amr.fusion.runs.record import RunRecord, write_csv, write_json
from amr.fusion.sweep.grouping import cut, group_size
from amr.fusion.threads import one_thread
from amr.fusion.train.recipe import Recipe


class Progress:
    """Hears how far a sweep is and says nothing; the others say it."""

    def start(self, num_runs: int, num_done: int) -> None:
        """A sweep of so many runs begins, some of them done before."""

    def advance(self, num_runs: float) -> None:
        """So many runs' worth of epochs more are trained; from any thread."""

    def finished(self, num_runs: int, what: str) -> None:
        """So many more runs are written."""

    def note(self, text: str) -> None:
        """Something that people should know."""


@dataclass(frozen=True)
class SweepResult:
    """What a sweep comes to.

    Args:
        folder: of the sweep.
        rows: one a run and part, as in results.csv.
        notes: what was decided or left out, in words.
        diverged: names of the runs that did not stay finite; they have no rows.
    """

    folder: Path
    rows: tuple[dict[str, Any], ...]
    notes: tuple[str, ...] = field(default=())
    diverged: tuple[str, ...] = field(default=())

    @property
    def table(self) -> pd.DataFrame:
        """The rows as a table."""
        return pd.DataFrame(list(self.rows))


@dataclass(frozen=True)
class _Group:
    """Runs of one recipe, of one source."""

    recipe: Recipe
    records: tuple[RunRecord, ...]
    source: Source


def sweep(config: SweepConfig, progress: Progress | None = None) -> SweepResult:
    """Fit every combination that a sweep asks for, and write results.csv.

    Args:
        config: what to do.
        progress: hears how far it is.

    Raises:
        ValueError: the request does not fit the cache, or the folder holds another sweep.
        FileNotFoundError: there is no such cache.
        RuntimeError: no run of a group stayed finite; finished groups are kept.
    """
    progress = progress or Progress()
    folder, asked_for = _folder(config)
    sources: dict[tuple[str | None, bool], Source] = {}

    def source_of(member: FitConfig) -> Source:
        key = member.modalities, takes_steps(member)
        if key not in sources:
            source = open_source(member, keep_steps=key[1])
            sources[key] = sources[",".join(source.dataset.modalities), key[1]] = source
        return sources[key]

    records = []
    for asked in config.members():
        for member in _expanded(asked, source_of(asked)):
            source = source_of(member)
            resolved = resolve(member, source.dataset)
            records.append(record_of(replace(resolved, out=str(folder / "runs" / _name(resolved, config))), source))
    records = list({record.config.out: record for record in records}.values())
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "sweep.json", asked_for)
    todo = [record for record in records if not _metrics_file(record).is_file()]
    progress.start(len(records), len(records) - len(todo))
    num_workers = torch.get_num_threads() if choose_device(config.base.device).type == "cpu" else 1
    for group in _fit_all(_groups(todo, source_of, config.group_size, num_workers), num_workers, progress):
        first = group.records[0].config
        write_results(folder, records)
        progress.finished(len(group.records), f"{first.method}, {first.head}")
    rows = write_results(folder, records)
    notes = dict.fromkeys(note for source in sources.values() for note in source.notes)
    failed = [Path(str(record.config.out)).name for record in records if not _metrics_file(record).is_file()]
    return SweepResult(folder, tuple(rows), tuple(notes), tuple(failed))


class _Stopped(Exception):
    """Another group failed, or Ctrl-C."""


def _fit_all(groups: Sequence[_Group], num_workers: int, progress: Progress) -> Iterator[_Group]:
    """Fit the groups, each in one of the workers' threads, and give each as it is written.

    On a CPU, groups side by side with a thread each beat one group with all threads: steps are too short to be split.
    """
    stop = threading.Event()

    def fit(group: _Group) -> _Group:
        done = 0.0

        def tick(epoch: int, epochs: int) -> None:
            nonlocal done
            if stop.is_set():
                raise _Stopped
            now = len(group.records) * epoch / epochs
            progress.advance(now - done)
            done = now

        folders = [Path(str(record.config.out)) for record in group.records]
        torch.set_num_threads(1 if num_workers > 1 else torch.get_num_threads())  # a setting of each thread
        fit_group(group.records, folders, group.source, tick, with_predictions=False)
        return group

    with one_thread() if num_workers > 1 else nullcontext(), ThreadPoolExecutor(num_workers) as pool:
        futures = [pool.submit(fit, group) for group in groups]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


def _expanded(member: FitConfig, source: Source) -> list[FitConfig]:
    """A member without a ratio that its method cannot take, and once a modality where the method takes one alone."""
    method = methods[member.method]
    if not method.takes_ratio:
        member = replace(member, amr_ratio=None)
    if not method.alone:
        return [member]
    return [replace(member, modalities=modality) for modality in source.dataset.modalities]


def write_results(folder: Path, records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Gather the finished runs into results.csv, one row a run and part, in the order asked for."""
    rows = []
    for record in records:
        if _metrics_file(record).is_file():
            metrics = json.loads(_metrics_file(record).read_text())
            rows += [_row(record, part, metrics[part]) for part in ("val", "test") if metrics[part] is not None]
    write_csv(folder / "results.csv", pd.DataFrame(rows))
    return rows


def _row(record: RunRecord, part: str, measures: Measures) -> dict[str, Any]:
    config = record.config
    takes_head = methods[config.method].head is None
    row: dict[str, Any] = {
        "run": Path(str(config.out)).name,
        "head": config.head if takes_head else "-",
        "method": config.method,
        "modalities": config.modalities,
        "amr_ratio": config.amr_ratio or "none",
        "amr_weight": config.amr_weight if config.amr_ratio else None,
        "lr": config.lr,
        "seed": config.seed,
        "part": part,
    }
    for name, value in measures.items():
        row |= {f"{name}_{m}": v for m, v in value.items()} if isinstance(value, dict) else {name: value}
    return row


def _groups(
    records: Sequence[RunRecord], source_of: Callable[[FitConfig], Source], size: int | None, num_workers: int
) -> list[_Group]:
    """Runs of one recipe together, no more than `size` at once, or as many as the device has room for."""
    groups: list[tuple[Recipe, float | None, list[RunRecord]]] = []
    result: list[_Group] = []
    for record in records:
        recipe = recipe_of(record)
        # a separate optimizer has the weight in its learning rate, which a group shares
        weight = member_of(record).weight if record.config.amr_optimizer == "separate" else None
        for other, other_weight, members in groups:
            if other == recipe and other_weight == weight:
                members.append(record)
                break
        else:
            groups.append((recipe, weight, [record]))
    for recipe, _, members in groups:
        source = source_of(members[0].config)
        seeds = [record.config.seed for record in members]
        most = size or group_size(recipe, source, num_workers, shares=len(set(seeds)) < len(seeds))
        for places in cut(seeds, most, 1 if size else num_workers):
            result.append(_Group(recipe, tuple(members[place] for place in places), source))
    return result


def _metrics_file(record: RunRecord) -> Path:
    return Path(str(record.config.out)) / "metrics.json"


def _name(config: FitConfig, sweep_config: SweepConfig) -> str:
    """A run's folder, named after what the sweep varies."""
    method = methods[config.method]
    parts = [config.method, str(config.modalities) if method.alone else config.head]
    parts.append(f"amr-{config.amr_ratio}" if config.amr_ratio else "plain")
    if len(sweep_config.amr_weight) > 1 and config.amr_ratio:
        parts.append(f"weight-{config.amr_weight:g}")
    if len(sweep_config.lr) > 1:
        parts.append(f"lr-{config.lr:g}")
    name = "_".join([*parts, f"seed{config.seed}"])
    return "".join(c if c.isalnum() or c in "-_.+" else "-" for c in name)


def _folder(config: SweepConfig) -> tuple[Path, dict[str, Any]]:
    """The sweep's folder, where one of the same sweep goes on, and what sweep.json says or is to say."""
    cache = find_cache(config.base.cache)
    with Cache.open(cache) as opened:
        fingerprints = {name: opened.info(name).fingerprint for name in opened.names}
        clips = opened.manifest_sha256  # labels, splits and groups are not in the fingerprints
    # what has no say in the numbers may differ when a sweep goes on
    base = replace(config.base, out=None, device="auto")
    asked = asdict(replace(config, base=base, group_size=None))
    asked = json.loads(json.dumps(asked | {"cache_fingerprints": fingerprints, "manifest_sha256": clips}))
    if config.base.out is not None:
        folder = Path(config.base.out)
    else:
        digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:8]
        folder = runs_dir() / f"sweep_{cache.stem}_{config.base.label}_{digest}"
    file = folder / "sweep.json"
    if file.is_file():
        if json.loads(file.read_text()) != asked:
            raise ValueError(f"--out must be new or of the same sweep, got {str(folder)!r}. Choose another name.")
    elif folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"--out must be new or of the same sweep, got {str(folder)!r}. Choose another name.")
    return folder, asked
