"""Many runs on one cache: `amr sweep`. Runs of one recipe are trained together; on a CPU, one group per core at a time.

A run is finished when its metrics.json exists; the same command continues with the other runs. The last bits of a run
depend on the runs that are trained beside it, so sweep.json has the groups, and a continued sweep has the same ones.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from amr.common.cluster.options import ClusterOptions, check_gpus
from amr.common.devices import choose_device, thread_pool
from amr.common.options import number_text
from amr.common.progress import Progress
from amr.fusion.config import FitConfig
from amr.fusion.data.folds import TrainingData, read_training_data
from amr.fusion.fit import fit_group
from amr.fusion.loggers.base import Sink
from amr.fusion.loggers.files import LOGS
from amr.fusion.loggers.tracker import check_loggers, tracking
from amr.fusion.methods import methods
from amr.fusion.methods.able import with_able_methods
from amr.fusion.resolve import member_of, method_notes, recipe_of, record_of, resolve, takes_steps, without_effect_on
from amr.fusion.runs.record import RunRecord
from amr.fusion.sweep.folder import Groups, choose_folder, new_sweep, read_groups, write_groups
from amr.fusion.sweep.grouping import CPU_GROUPS, group_size, partition
from amr.fusion.sweep.on_ray import fit_on_ray
from amr.fusion.sweep.results import Results, discard_damaged, is_finished, run_folder
from amr.fusion.swept import SweepConfig
from amr.fusion.train.recipe import Recipe


@dataclass(frozen=True)
class SweepResult:
    """Result of a sweep.

    Args:
        folder: Folder of the sweep.
        rows: Rows of results.csv, one per run and split.
        notes: Sentences about what was decided or left out.
        diverged: Names of the runs that did not stay finite; they have no rows.
        warnings: Sentences about data that make results doubtful, and about ratios that were not reached.
        task: Task of its runs.
    """

    folder: Path
    rows: tuple[dict[str, Any], ...]
    notes: tuple[str, ...] = field(default=())
    diverged: tuple[str, ...] = field(default=())
    warnings: tuple[str, ...] = field(default=())
    task: str = "multiclass"

    def to_json(self) -> list[dict[str, Any]]:
        """Document of `amr sweep --json`: the rows, with null for no AMR, and lists of modalities."""
        return [
            row
            | {
                "amr_ratio": None if row["amr_ratio"] == "none" else row["amr_ratio"],
                "modalities": row["modalities"].split(","),
            }
            for row in self.rows
        ]

    @property
    def table(self) -> pd.DataFrame:
        """Rows as a table."""
        return pd.DataFrame(list(self.rows))


@dataclass(frozen=True)
class RunGroup:
    """Runs of one recipe on the same training data, which are trained together."""

    recipe: Recipe
    records: tuple[RunRecord, ...]
    data: TrainingData

    @property
    def unfinished(self) -> list[RunRecord]:
        """Runs whose files are missing. They are trained with the others, so that they are equal to the bit."""
        return [record for record in self.records if not is_finished(record)]


def sweep(
    config: SweepConfig,
    progress: Progress | None = None,
    *,
    overwrite: bool = False,
    cluster: ClusterOptions | None = None,
) -> SweepResult:
    """Fit every combination of a sweep, and write results.csv.

    Args:
        config: Config of the sweep.
        progress: Listener.
        overwrite: Whether to replace another sweep in the folder.
        cluster: Cluster whose workers fit the run groups; by default this process does.

    Raises:
        ValueError: The request does not fit the cache, the folder holds another sweep, or a tracker cannot be used.
        FileNotFoundError: The cache does not exist.
        RuntimeError: Another process sweeps in the folder. Or a unimodal model that a method needs diverged; groups
            that finished before remain on disk.
    """
    progress = progress or Progress()
    check_loggers(config.base.logger)
    if cluster is not None:
        check_gpus(cluster, config.base.device)
    opened: dict[tuple[str | None, bool], TrainingData] = {}

    def data_of(member: FitConfig) -> TrainingData:
        key = member.modalities, takes_steps(member)
        if key not in opened:
            data = read_training_data(member, keep_steps=key[1])
            opened[key] = opened[",".join(data.dataset.modalities), key[1]] = data
        return opened[key]

    def check(member: FitConfig) -> None:
        for each in _expanded(member, data_of(member)):
            resolve(each, data_of(each).dataset)

    config, left_out = with_able_methods(config, check)
    folder, _ = choose_folder(config, overwrite=overwrite)
    records = []
    for swept in config.members():
        for member in _expanded(swept, data_of(swept)):
            data = data_of(member)
            resolved = resolve(member, data.dataset)
            records.append(record_of(replace(resolved, out=str(folder / "runs" / _name(resolved, config))), data))
    records, repeated = _distinct(records)
    with (
        new_sweep(folder, config, records, progress, overwrite=overwrite),
        tracking(config.base.logger, folder / LOGS, folder.name) as sink,
    ):
        results = Results(folder, records)
        rows = _run_all(folder, records, results, data_of, config, cluster or ClusterOptions(), progress, sink)
    of_data = [note for data in opened.values() for note in data.notes]
    notes = dict.fromkeys([*left_out, *without_effect_on(config.members()), *repeated, *of_data, *_remarks(records)])
    failed = [run_folder(record).name for record in records if not is_finished(record)]
    warnings = dict.fromkeys(text for data in opened.values() for text in data.warnings)
    missed, task = results.missed_targets(), config.base.task
    return SweepResult(folder, tuple(rows), tuple(notes), tuple(failed), (*warnings, *missed), task)


def _run_all(
    folder: Path,
    records: Sequence[RunRecord],
    results: Results,
    data_of: Callable[[FitConfig], TrainingData],
    config: SweepConfig,
    cluster: ClusterOptions,
    progress: Progress,
    sink: Sink | None,
) -> list[dict[str, Any]]:
    """Fit the runs that are not finished, and return the rows of results.csv."""
    discard_damaged(records, progress)
    todo = [record for record in records if not is_finished(record)]
    if sink is not None and len(todo) < len(records):
        progress.note(f"{len(records) - len(todo)} runs are finished already: --logger gets the others")
    progress.start(len(records), len(records) - len(todo), "runs")
    for record in todo:  # who reads an unfinished sweep can then count what is missing
        run_folder(record).mkdir(parents=True, exist_ok=True)
        record.save(run_folder(record))
    groups = [group for group in _groups(folder, records, data_of, config) if group.unfinished]
    num_workers = torch.get_num_threads() if choose_device(config.base.device).type == "cpu" else 1
    on_ray = cluster.engine == "ray" and groups
    fits = fit_on_ray(groups, cluster, progress, sink) if on_ray else _fit_all(groups, num_workers, progress, sink)
    for _ in fits:
        results.write()
    return results.write()


class _Stopped(Exception):
    """Raised in the threads of other groups after a failure or Ctrl-C."""


def _fit_all(groups: Sequence[RunGroup], num_workers: int, progress: Progress, sink: Sink | None) -> Iterator[RunGroup]:
    """Fit the groups in `num_workers` threads, and yield each group after its files are written.

    On a CPU, one thread per group is faster than all threads for one group: training steps are too short for several.
    """
    stop = threading.Event()

    def fit(group: RunGroup) -> RunGroup:
        unfinished = group.unfinished

        def advance(fraction: float) -> None:
            if stop.is_set():
                raise _Stopped
            progress.advance(len(unfinished) * fraction)

        folders = [run_folder(record) if record in unfinished else None for record in group.records]
        fit_group(group.records, folders, group.data, advance, with_predictions=False, sink=sink)
        return group

    with thread_pool(num_workers) as pool:
        futures = [pool.submit(fit, group) for group in groups]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


def _expanded(member: FitConfig, data: TrainingData) -> list[FitConfig]:
    """Remove the ratio if the method cannot use one; one config per modality if the method takes a single one."""
    method = methods[member.method]
    if not method.fuses:
        member = replace(member, amr_ratio=None)
    if not method.single_modality:
        return [member]
    return [replace(member, modalities=modality) for modality in data.dataset.modalities]


def _remarks(records: Sequence[RunRecord]) -> list[str]:
    """Remarks of the methods on the runs, each once, with the names of its methods."""
    remarks: dict[str, dict[str, None]] = {}
    for record in records:
        for note in method_notes(record.config, [*record.modalities]):
            remarks.setdefault(note, {})[record.config.method] = None
    return [f"{', '.join(names)}: {note}" for note, names in remarks.items()]


def _distinct(records: Sequence[RunRecord]) -> tuple[list[RunRecord], list[str]]:
    """Leave out runs of the same settings; also return a note about each ratio that was typed in several ways."""
    first: dict[tuple[FitConfig, tuple[float, ...]], RunRecord] = {}
    typed: dict[str, dict[str, None]] = {}
    for record in records:
        config = record.config
        target = tuple(round(share, 9) for share in (record.target_share or {}).values())
        setting = replace(config, out=None, amr_ratio=None, amr_weight=config.regularizer_weight)
        kept = first.setdefault((setting, target), record).config.amr_ratio
        if kept is not None and config.amr_ratio != kept:
            typed.setdefault(kept, {})[str(config.amr_ratio)] = None
    notes = [f"--amr-ratio {kept} and {', '.join(others)} are the same: fitted once" for kept, others in typed.items()]
    return list(first.values()), notes


def _groups(
    folder: Path, records: Sequence[RunRecord], data_of: Callable[[FitConfig], TrainingData], config: SweepConfig
) -> list[RunGroup]:
    """Groups of all runs: those with which the sweep began, unless another --group-size is requested now."""
    by_name = {run_folder(record).name: record for record in records}
    began = read_groups(folder)
    if (
        began is None
        or config.group_size not in (None, began.size)
        or sorted(chain.from_iterable(began.runs)) != sorted(by_name)
    ):
        groups = _divided(records, data_of, config)
        names = tuple(tuple(run_folder(record).name for record in group) for group in groups)
        write_groups(folder, Groups(config.group_size, names))
    else:
        groups = [[by_name[name] for name in names] for names in began.runs]
    return [RunGroup(recipe_of(group[0]), tuple(group), data_of(group[0].config)) for group in groups]


def _divided(
    records: Sequence[RunRecord], data_of: Callable[[FitConfig], TrainingData], config: SweepConfig
) -> list[list[RunRecord]]:
    """Divide runs into groups of one recipe, at most --group-size in each; by default as many as fit the device."""
    least = CPU_GROUPS if choose_device(config.base.device).type == "cpu" and config.group_size is None else 1
    of_recipe: list[tuple[Recipe, float | None, list[RunRecord]]] = []
    for record in records:
        recipe = recipe_of(record)
        # a separate optimizer has the weight in its learning rate, of which a group has only one
        weight = member_of(record).weight if record.config.amr_optimizer == "separate" else None
        for other, other_weight, members in of_recipe:
            if other == recipe and other_weight == weight:
                members.append(record)
                break
        else:
            of_recipe.append((recipe, weight, [record]))
    result = []
    for recipe, _, members in of_recipe:
        seeds = [record.config.seed for record in members]
        shares = len(set(seeds)) < len(seeds)
        most = config.group_size or group_size(recipe, data_of(members[0].config), shares=shares)
        result += [[members[i] for i in indices] for indices in partition(seeds, most, least)]
    return result


def _name(config: FitConfig, sweep_config: SweepConfig) -> str:
    """Folder name of a run, from the settings that the sweep varies."""
    method = methods[config.method]
    parts = [config.method, str(config.modalities) if method.single_modality else config.head]
    parts.append(f"amr-{config.amr_ratio}" if config.amr_ratio else "plain")
    if sweep_config.varies("attribution") and config.amr_ratio:
        parts.append(config.attribution)
    if sweep_config.varies("amr_weight") and config.amr_ratio:
        parts.append(f"weight-{number_text(config.regularizer_weight)}")
    if sweep_config.varies("lr") and config.lr is not None:
        parts.append(f"lr-{number_text(config.lr)}")
    own_decay = bool(sweep_config.also) and config.weight_decay == method.weight_decay
    if sweep_config.varies("weight_decay") and config.weight_decay is not None and not own_decay:
        parts.append(f"decay-{number_text(config.weight_decay)}")
    if sweep_config.varies("embedding_noise") and (config.embedding_noise or not sweep_config.also):
        parts.append(f"noise-{config.embedding_noise or 0}")
    if sweep_config.also:
        parts += [text.replace("=", "-") for text in config.method_option]
    name = "_".join([*parts, f"seed{config.seed}"])
    return "".join(c if c.isalnum() or c in "-_.+" else "-" for c in name)
