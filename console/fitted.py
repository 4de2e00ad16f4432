"""Commands about fitted runs: evaluate, predict, explain."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from amr.console.commands import Device, Json, configured, parameter
from amr.console.output import cell, say, show, table
from amr.console.progress import stderr_progress
from amr.fusion.evaluate.config import EvaluateConfig

if TYPE_CHECKING:
    from amr.fusion.prediction import Prediction

MAX_NAMED = 3  # clips without a prediction that are named

_RUN_HELP = "Folder of a run or training, or its name; of a sweep or table, its best run by val is taken."
_EVALUATED = Annotated[
    Path,
    typer.Argument(metavar="RUN", help="Folder of a run, sweep, table or training, or its name in runs/ or encoders/."),
]
_CLIPS_HELP = "Media files, folders of media, manifests or other CSV files of clips, or ids of cached clips."


def add_fitted(app: typer.Typer) -> None:
    """Add the commands about fitted runs to an app."""
    run = parameter("run", _EVALUATED, inspect.Parameter.empty)
    configured(app, "evaluate", EvaluateConfig, _evaluate, instead={"run": run})
    app.command("predict")(predict_clips)
    app.command("explain")(explain_clip)


def _evaluate(config: EvaluateConfig, as_json: bool) -> None:
    """Measure what one run or a whole sweep relies on: missing modalities, noise, conflict, calibration, people."""
    from amr.common.workspace import find_run

    config.check_writable(find_run(config.run))  # before torch is imported
    from amr.fusion.evaluate.evaluate import evaluate
    from amr.fusion.evaluate.people.tables import people_tables
    from amr.fusion.evaluate.tables import (
        LEARNED_TITLE,
        differences_table,
        encoders_table,
        rank_sentence,
        reading,
        reliance_table,
        scores_table,
    )

    with stderr_progress() as progress:
        result = evaluate(config, progress)
    document = result.document
    show(document, as_json, lambda: table("test", *scores_table(document)))
    if not as_json:
        others = [("what each setting relies on", *reliance_table(document))]
        if (learned := encoders_table(document)) is not None:
            others.append((LEARNED_TITLE, *learned))
        if document["comparisons"]:
            others.append(("AMR against none, paired; * p < .05, t-test, Holm", *differences_table(document)))
        others += [(each.title, each.columns, each.rows) for each in people_tables(document)]
        for other in others:
            show(None, False, partial(table, *other))
        if (ranks := rank_sentence(document)) is not None:
            say(ranks)
        for line in reading(document).split("\n"):
            say(line)
    say(f"evaluation.json, .csv and .npz in {result.folder}")


def predict_clips(
    run: Annotated[str, typer.Argument(help=_RUN_HELP)],
    clips: Annotated[list[str] | None, typer.Argument(help=_CLIPS_HELP)] = None,
    clip: Annotated[list[str] | None, typer.Option(help="One more clip; --clip=ID for ids that begin with -.")] = None,
    out: Annotated[Path | None, typer.Option(help="CSV to write instead of a table, one row per clip.")] = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Predict class, probability and shares of new media or cached clips. Clips that cannot be read get a note."""
    from amr.common.workspace import find_run
    from amr.fusion.prediction import check_csv, write_predictions

    find_run(run)
    if out is not None:
        check_csv(out)
    from amr.fusion.predict import predict

    with stderr_progress() as progress:
        predictions = predict(run, [*(clips or []), *(clip or [])], device, progress)
    if out is not None:
        write_predictions(out, predictions)
    if json or out is None:
        show([dataclasses.asdict(prediction) for prediction in predictions], json, lambda: _table(predictions))
    failed = [prediction for prediction in predictions if prediction.pred is None]
    if out is not None:
        say(f"{len(predictions)} clips written to {out}")
    if len(failed) == len(predictions):
        raise RuntimeError(f"at least one clip must be predicted, got none: {_named(failed)}. Name other clips.")
    if failed:
        say(f"no prediction for {len(failed)} of {len(predictions)} clips: {_named(failed)}")


def _named(failed: Sequence[Prediction]) -> str:
    """Names of some clips without a prediction, the first with the reason."""
    names = [prediction.clip for prediction in failed[:MAX_NAMED]]
    names[0] = f"{names[0]} ({failed[0].note})"
    return ", ".join(names) + (f" and {len(failed) - MAX_NAMED} more" if len(failed) > MAX_NAMED else "")


def _table(predictions: Sequence[Prediction]) -> Table:
    cells: list[list[object]] = []
    for p in predictions:
        share = ", ".join(f"{m} {cell(share)}" for m, share in p.share.items())
        cells.append([p.clip, p.pred, p.probability, share, p.note])
    one_class = any(p.probability is not None for p in predictions)  # labels and numbers have no probability
    columns = ["clip", "class" if one_class else "prediction", "probability", "share", "note"]
    return table("", columns, cells)


def explain_clip(
    run: Annotated[str, typer.Argument(help=_RUN_HELP)],
    clip: Annotated[str | None, typer.Argument(help="Media file, or id of a cached clip.")] = None,
    clip_option: Annotated[
        str | None, typer.Option("--clip", help="The clip; --clip=ID for an id that begins with -.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Picture to write, .png, .svg or .pdf; explain_CLIP.png in the run by default.")
    ] = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Explain one clip in a picture: shares by attribution, predictions without a modality, and when each mattered."""
    from amr.common.workspace import find_run
    from amr.fusion.explain.config import ExplainConfig

    requested = [each for each in (clip, clip_option) if each is not None]
    if len(requested) != 1:
        raise ValueError(f"amr explain must be given one clip, got {len(requested)}. Name a media file or a cached id.")
    config = ExplainConfig(find_run(run), requested[0], out, device)
    config.check_writable(config.run)  # before anything heavy is imported
    from amr.fusion.runs.read import chosen_run

    with stderr_progress() as progress:
        config = dataclasses.replace(config, run=chosen_run(config.run, progress))
    from amr.fusion.explain.explain import explain

    explanation = explain(config)
    show(explanation.to_json(), json, lambda: table(*explanation.table()))
    say("; ".join([*explanation.notes, f"picture written to {explanation.picture}"]))
