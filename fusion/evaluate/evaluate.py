"""Measure what the runs of a folder rely on: `amr evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from amr.common.files import checksummed
from amr.common.progress import Progress
from amr.common.workspace import find_cache, find_run, run_name
from amr.extract.cache.reader import Cache
from amr.fusion.data.clips import NUM_PERMUTATIONS
from amr.fusion.data.folds import TrainingData
from amr.fusion.data.splits import group_codes
from amr.fusion.evaluate.bootstrap import Resamples, percentiles
from amr.fusion.evaluate.comparison import Measured, against_none, in_units, over_seeds, rank_correlations
from amr.fusion.evaluate.config import FILES, FORMAT, EvaluateConfig
from amr.fusion.evaluate.groups import (
    OpenedCaches,
    OtherCache,
    RunGroup,
    check_caches,
    count_unfinished,
    measured_anew,
    other_cache,
    read_tested_runs,
    run_groups,
)
from amr.fusion.evaluate.measures.conflict import NUM_DRAWS
from amr.fusion.evaluate.people.compare import against_people
from amr.fusion.evaluate.people.votes import find_votes, parse_channels
from amr.fusion.evaluate.per_clip import PerClip, measure_group
from amr.fusion.evaluate.perturb import LEVELS, Name
from amr.fusion.evaluate.references.encoders import HOW, EncodersAlone
from amr.fusion.evaluate.references.scaling import modality_scaling
from amr.fusion.evaluate.references.unimodal import Reference, UnimodalHeads
from amr.fusion.evaluate.write import VERSION, Arrays, rounded, run_entry, write
from amr.fusion.runs.folder import few_of
from amr.fusion.runs.read import Run, flat, read_runs
from amr.fusion.runs.statistics import CONFIDENCE

GAINS = ("gain_over_ume", "gain_over_best_unimodal")  # null in the results of runs that have none
# Measures of the models of a fold: no mean over test clips, so no intervals over resampled clips.
OF_MODELS = ("best_unimodal", "overfitting", "generalization", "ogr")


@dataclass(frozen=True)
class Evaluation:
    """Result of an evaluation.

    Args:
        folder: Folder with evaluation.json, evaluation.csv and evaluation.npz: that of the run or sweep, or `out`.
        document: Content of evaluation.json.
    """

    folder: Path
    document: dict[str, Any]


def evaluate(config: EvaluateConfig, progress: Progress | None = None) -> Evaluation:
    """Measure what the fitted heads of a folder rely on, and write the results into it, or into `out`.

    Args:
        config: Options of the evaluation.
        progress: Listener.

    Raises:
        FileNotFoundError: The folder is neither a run nor a sweep, or its cache is gone.
        ValueError: The runs were fitted on another cache, it has no votes or tags of people, or the results cannot be
            written.
    """
    progress = progress or Progress()
    folder = find_run(config.run)
    config.check_writable(folder)
    runs = read_tested_runs(folder) if config.cache is None else read_runs(folder)
    check_tasks(runs, config)
    if config.against == "people":
        _check_people(runs, config)
    num_unfinished = count_unfinished(folder)
    if num_unfinished:
        progress.note(
            f"{num_unfinished} of {num_unfinished + len(runs)} runs are left out: they are not finished, or diverged. "
            "The command that made them continues."
        )
    if config.cache is None:
        check_caches(runs)
    else:
        _check_one_cache(runs)
    caches = OpenedCaches(config.device)
    is_alone = config.cache is not None or runs[0].config.task != "multiclass"
    references = None if is_alone else _References(runs, caches, config.unimodal, progress.note)
    other = None if config.cache is None else OtherCache(find_cache(config.cache), config.device, progress.note)
    data_of = (other or caches).data
    progress.start(len(runs), unit="runs")
    all_data = data_of(max(runs, key=lambda run: len(run.modalities)))
    measured: dict[Path, Measured] = {}
    people: dict[Path, dict[str, Any]] = {}
    scaled: dict[Path, list[dict[str, Any]]] = {}
    modalities = list(dict.fromkeys([*all_data.dataset.modalities, *(m for run in runs for m in run.modalities)]))
    arrays = Arrays(all_data, [run.name for run in runs], modalities)
    drawn = Resamples(config.bootstrap, config.seed)
    for fitted_group in run_groups(runs, data_of):
        group = fitted_group if other is None else measured_anew(fitted_group)
        reference_of = None if references is None else references.of(group)
        per_clip = measure_group(group, reference_of, seed=config.seed, noise_draws=config.noise_draws)
        measured |= {m.run.folder: m for m in _measured(group, per_clip, config, drawn)}
        if config.against == "people":
            people |= _against_people(group, per_clip, config)
        scaled |= _scaled(group)
        arrays.add(group, per_clip)
        progress.advance(len(group.runs))
    ordered = [measured[run.folder] for run in runs]
    document = rounded(
        _document(config, folder, all_data, ordered, people, scaled)
        | {"modalities": modalities, "num_unfinished": num_unfinished}
    )
    for run, entry in zip(runs, document["runs"], strict=True):
        entry["encoders_alone"] = None if references is None else references.encoders_alone.get(run.folder)
    out = config.folder(folder)
    out.mkdir(parents=True, exist_ok=True)
    with checksummed(out, *FILES):
        write(out, document, ordered)
        arrays.save(out)
    return Evaluation(out, document)


class _References:
    """Uni-modal references of runs: encoders trained alone for those of a joint training, else heads.

    Args:
        runs: All runs of the folder.
        caches: Their caches.
        named: Value of --unimodal.
        on_note: Function that is called with each remark.

    Raises:
        ValueError: --unimodal is given, and no run is that of a joint training.
    """

    def __init__(
        self, runs: Sequence[Run], caches: OpenedCaches, named: str | None, on_note: Callable[[str], None]
    ) -> None:
        self._heads, self._encoders = UnimodalHeads(runs, caches), EncodersAlone(named)
        found = {run.folder: self._encoders.runs(run) for run in runs}
        self.encoders_alone = {
            folder: {m: each.name for m, each in alone.items()} for folder, alone in found.items() if alone is not None
        }
        if named is not None and not self.encoders_alone:
            raise ValueError(
                f"--unimodal must be used with the run of a joint training of encoders, got {named!r} with another. "
                "Leave it out."
            )
        lacking = [run.name for run in runs if found[run.folder] == {}]
        if lacking:
            on_note(f"no encoders trained alone to compare {few_of(lacking)} with; {HOW}")

    def of(self, group: RunGroup) -> Callable[[int], Reference] | None:
        """Function of a fold's number that returns the reference of a group; None if there is none."""
        trained = group.runs[0].folder in self.encoders_alone
        return self._encoders.of(group) if trained else self._heads.of(group)


def _check_one_cache(runs: Sequence[Run]) -> None:
    """Refuse --cache for runs that each have encoders of their own: no cache could hold the embeddings of all."""
    if len({run.record.cache for run in runs}) > 1:
        raise ValueError(
            f"--cache must be left out for runs that each trained encoders, got {len(runs)} such runs. "
            f"Name one run, such as {runs[0].folder}, and a cache of its encoders."
        )


def _measured(group: RunGroup, per_clip: PerClip, config: EvaluateConfig, drawn: Resamples) -> list[Measured]:
    folds = per_clip.folds
    one_fold = np.eye(folds.max() + 1)[:, folds]  # (folds, clips)
    by_fold = per_clip.measures(one_fold) | per_clip.calibration_errors(one_fold)
    all_clips = np.ones((1, len(folds)))
    value = per_clip.measures(all_clips) | per_clip.calibration_errors(all_clips)
    _check_score(group, value[("accuracy",)][0], len(folds))
    intervals: dict[Name, np.ndarray] = {}
    if config.bootstrap:
        codes = group_codes(group.data.dataset.clips)[per_clip.rows]
        samples = in_units(per_clip.measures(drawn.of(codes)), group.runs[0].score)
        intervals = {name: percentiles(values) for name, values in samples.items() if name[0] not in OF_MODELS}
    counts = {
        (*name[:-1], "num_clips"): len(np.unique(per_clip.rows[(~np.isnan(values)).any(0)]))
        for name, values in per_clip.values.items()
        if name[0] == "conflict" and name[-1] == "neither"
    }
    value, by_fold = (in_units(each, group.runs[0].score) for each in (value, by_fold))
    value |= {name: values.mean(0, keepdims=True) for name, values in _as_fitted(group.runs).items()}
    by_fold |= _as_fitted(group.runs)
    if config.cache is None:
        overlap = group.data.overlap
    else:  # all folds are tested on the same clips: only seeds make pairs
        by_fold, overlap = value, 0.0
    return [
        Measured(
            run,
            {name: float(values[0, r]) for name, values in value.items()},
            {name: (float(low), float(high)) for name, bounds in intervals.items() for low, high in [bounds[:, r]]},
            {name: values[:, r] for name, values in by_fold.items()},
            counts,
            overlap,
        )
        for r, run in enumerate(group.runs)
    ]


def _check_score(group: RunGroup, values: np.ndarray, num_clips: int) -> None:
    """Refuse caches with other labels: labels have no fingerprint, but they show in the score.

    Devices round differently, so a few clips may differ.
    """
    for run, measured in zip(group.runs, values, strict=True):
        fitted = run.measures[run.score.name]
        unit = fitted if run.score.least_is_best else 1.0
        if abs(measured - run.score.gain(fitted)) * num_clips > max(2, 0.01 * num_clips) * unit:
            raise ValueError(other_cache(run, group.data))


def check_tasks(runs: Sequence[Run], config: EvaluateConfig) -> None:
    """Refuse what is of classes alone for runs that predict labels or numbers, and runs of several tasks.

    Raises:
        ValueError: It is requested.
    """
    tasks = {run.config.task for run in runs}
    if len(tasks) > 1:
        raise ValueError(f"RUN must have runs of one task, got {', '.join(sorted(tasks))}. Evaluate them one by one.")
    for name, value in (("--cache", config.cache), ("--against", config.against), ("--unimodal", config.unimodal)):
        if value is not None and tasks != {"multiclass"}:
            raise ValueError(
                f"{name} must be used with runs that predict classes, got {value} with --task {tasks.pop()}. "
                "Leave it out."
            )


def _as_fitted(runs: Sequence[Run]) -> dict[Name, np.ndarray]:
    """Measures of the fit that are not means over clips, on the same clips: name to `(folds, run)`."""
    score = runs[0].score
    names: list[Name] = [(name,) for name in score.measures if name != score.name]
    if len(runs[0].modalities) > 1:
        names += [(name, m) for name in ("share_logit", "share_spread") for m in runs[0].modalities] + [("one_sided",)]
    result = {}
    for name in names:
        by_run = [[flat(fold["test"]).get(".".join(name), np.nan) for fold in run.folds] for run in runs]
        result[name] = np.array(by_run).T  # NaN in runs of 0.1, which lack some
    return result


def _scaled(group: RunGroup) -> dict[Path, list[dict[str, Any]]]:
    """Curves of modality scaling of the runs without AMR, as far as they exist."""
    plain = replace(group, runs=tuple(run for run in group.runs if not run.regularized))
    if not plain.runs or plain.runs[0].config.task != "multiclass":
        return {}
    return {run.folder: curve for run, curve in zip(plain.runs, modality_scaling(plain), strict=True) if curve}


def _check_people(runs: Sequence[Run], config: EvaluateConfig) -> None:
    """Refuse caches without votes or tags, or with votes that do not fit, before anything is measured."""
    checked = {(Path(run.record.cache), run.record.classes, run.modalities) for run in runs}
    for path, classes, modalities in checked:
        if path.is_file():  # `OpenedCaches` refuses the others
            with Cache.open(path) as cache:
                clips = cache.table().iloc[:0]
                find_votes(clips, classes, modalities, _channels(config), imported=not cache.root)


def _channels(config: EvaluateConfig) -> dict[str, str] | None:
    return None if config.people is None else parse_channels(config.people)


def _against_people(group: RunGroup, per_clip: PerClip, config: EvaluateConfig) -> dict[Path, dict[str, Any]]:
    dataset = group.data.dataset
    results = against_people(
        dataset.clips.iloc[per_clip.rows],
        dataset.classes,
        per_clip.modalities,
        per_clip.probability,
        per_clip.share,
        label=group.runs[0].config.label,
        channels=_channels(config),
    )
    return {run.folder: result for run, result in zip(group.runs, results, strict=True)}


def _document(
    config: EvaluateConfig,
    folder: Path,
    data: TrainingData,
    measured: Sequence[Measured],
    people: dict[Path, dict[str, Any]],
    scaled: dict[Path, list[dict[str, Any]]],
) -> dict[str, Any]:
    first = measured[0].run.config
    clips = data.dataset.clips
    rows = np.unique(np.concatenate([fold.rows.test for fold in data.folds]))
    entries = [run_entry(m) for m in measured]
    for m, entry in zip(measured, entries, strict=True):
        measures = entry["measures"]
        for gain in GAINS:
            measures.setdefault(gain, None)
        if m.run.folder in people:
            measures["people"] = people[m.run.folder]
        entry["modality_scaling"] = scaled.get(m.run.folder)
    return {
        "format": FORMAT,
        "version": VERSION,
        "source": run_name(folder),
        "cache": str(data.cache),
        "fitted_on": measured[0].run.record.cache,
        "label": first.label,
        "task": first.task,
        "modalities": list(data.dataset.modalities),
        "classes": list(data.dataset.classes),
        "part": "test",
        "num_clips": len(rows),
        "settings": {
            "num_permutations": NUM_PERMUTATIONS,
            "noise_levels": list(LEVELS),
            "noise_draws": config.noise_draws,
            "conflict_draws": NUM_DRAWS,
            "num_bootstrap": config.bootstrap,
            "confidence": CONFIDENCE,
            "resampled": "clips" if len(np.unique(group_codes(clips)[rows])) == len(rows) else "groups",
            "folds": first.folds,
            "seed": config.seed,
            "unimodal": config.unimodal,
        },
        "runs": entries,
        "groups": over_seeds(measured),
        "comparisons": against_none(measured),
        "rank_correlations": rank_correlations(measured),
    }
