"""The command line: parse -> frozen config -> one call -> print.

torch is imported inside commands only, so that help is quick. Progress and messages go to stderr, results to stdout.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from amr.console.commands import Json, configured, parameter
from amr.console.output import cell, lines, progress_bar, say, show, table
from amr.console.refusals import run_app
from amr.console.tables import explanation_table, measures_table, trained_table
from amr.extract.config import ExtractConfig, ImportConfig
from amr.fusion.config import SWEPT, FitConfig, SweepConfig
from amr.fusion.end_to_end.config import TrainConfig
from amr.fusion.evaluate.config import EvaluateConfig
from amr.fusion.report.config import ReportConfig

app = typer.Typer(
    name="amr",
    help="Does your model listen, look, or both? Embeddings once, then fusion heads with attribution regularization.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `amr` and exit: 0 done, 1 the work failed, 2 the request was wrong."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run `amr` with these arguments and return its exit status.

    With AMR_TRACEBACK set, errors keep their traceback.
    """
    return run_app(app, arguments)


# --- what there is ---------------------------------------------------------------------------------------------------


@app.command("datasets")
def list_datasets(json: Json = False) -> None:
    """The datasets that are known by name."""
    from amr.data_manifests.datasets import datasets

    rows = [
        {
            "name": d.name,
            "modalities": list(d.modalities),
            "summary": d.summary,
            "licence": d.licence,
            "homepage": d.homepage,
        }
        for _, d in datasets.items()
    ]
    show(
        rows,
        json,
        lambda: table(
            "",
            ["dataset", "modalities", "what", "media from"],
            [[r["name"], ", ".join(r["modalities"]), r["summary"], r["homepage"] or "-"] for r in rows],
        ),
    )


@app.command("encoders")
def list_encoders(
    pattern: Annotated[str | None, typer.Argument(help="Part of a name, such as resnet.")] = None, json: Json = False
) -> None:
    """The encoders that --encoder NAME=SPEC may name."""
    from amr.extract.encoders import list_encoders

    rows = [dataclasses.asdict(info) for info in list_encoders(pattern)]
    if not rows:
        raise ValueError(
            f"PATTERN must be part of an encoder's name, got {pattern!r}. amr encoders lists the families."
        )
    show(
        rows,
        json,
        lambda: table(
            "",
            ["spec", "modality", "embed_dim", "what"],
            [[r["spec"], r["modality"], r["embed_dim"], r["summary"]] for r in rows],
        ),
    )


@app.command("heads")
def list_heads(json: Json = False) -> None:
    """The fusion heads, with their parameters for two modalities of 512 and six classes."""
    from amr.fusion.heads import HeadShape, heads
    from amr.fusion.run_axis.layers import Draws

    rows = []
    for name, head in heads.items():
        if not head.listed:
            continue
        built = head(HeadShape({"audio": 512, "video": 512}, 6, 0), Draws([0]))
        rows.append({"name": name, "parameters": sum(p.numel() for p in built.parameters()), "summary": head.summary})
    show(rows, json, lambda: table("", ["head", "parameters", "what"], [[*row.values()] for row in rows]))


@app.command("methods")
def list_methods(json: Json = False) -> None:
    """How training can treat the modalities, and each method's own options."""
    from amr.fusion.methods import methods

    rows: list[dict[str, Any]] = []
    for name, method in methods.items():
        options = {f.name: f.default for f in dataclasses.fields(method.Options)}
        rows.append({"name": name, "summary": method.summary, "source": method.source, "options": options})
    texts = [", ".join(f"{k}={v}" for k, v in row["options"].items()) or " " for row in rows]
    columns = ["method", "what", "options", "source"]
    cells = [[r["name"], r["summary"], text, r["source"]] for r, text in zip(rows, texts, strict=True)]
    show(rows, json, lambda: table("", columns, cells))


# --- manifest, extract, cache ----------------------------------------------------------------------------------------


@app.command("manifest")
def manifest(
    dataset: Annotated[str, typer.Option(help="Dataset; amr datasets lists them.")],
    root: Annotated[Path | None, typer.Option(help="Folder of the media; data/DATASET by default.")] = None,
    out: Annotated[Path | None, typer.Option(help="CSV to write the manifest to.")] = None,
    json: Json = False,
) -> None:
    """Find a dataset's media, check them against its list, and say what is missing or known to be bad."""
    from amr.data_manifests.datasets import build_manifest
    from amr.data_manifests.manifest import write_manifest

    built, report = build_manifest(dataset, root)
    if out is not None:
        if out.exists() and out.suffix != ".csv":
            raise ValueError(f"--out must be a .csv or a new file, got {str(out)!r}. Choose another name.")
        write_manifest(built, out)
        say(f"{len(built)} clips written to {out}")
    show(report.to_json(), json, report.to_text)


def _extract(config: ExtractConfig, as_json: bool) -> None:
    """Decode every clip once, run every encoder over it, and write the embeddings to a cache."""
    from amr.console.progress import stderr_progress
    from amr.extract.run import extract

    result = extract(config, stderr_progress())
    show(result.to_json(), as_json, lambda: lines(result.summary()))
    if sum(result.embedded.values()) == 0:
        raise RuntimeError(f"no clip of {result.cache} could be embedded. See the failures with amr inspect.")


def _import(config: ImportConfig, as_json: bool) -> None:
    """Make a cache of embeddings that exist already."""
    from amr.extract.import_embeddings import import_embeddings

    result = import_embeddings(config)
    show(result.to_json(), as_json, lambda: lines(result.to_json()))


def _train_encoders(config: TrainConfig, as_json: bool) -> None:
    """Train encoders on your own clips, each alone or all with one head, for amr extract to use."""
    from amr.console.progress import stderr_progress
    from amr.fusion.end_to_end.train import train_encoders

    result = train_encoders(config, stderr_progress())
    for note in result.notes:
        say(note)
    show(result.to_json(), as_json, lambda: trained_table(result.to_json()))
    given = " ".join(f"--encoder {name}={spec}" for name, spec in result.encoders.items())
    source = f"--dataset {config.dataset}" if config.dataset is not None else f"--manifest {config.manifest}"
    say(f"written to {result.folder}; next: amr extract {source} {given}")


configured(app, "extract", ExtractConfig, _extract)
configured(app, "import", ImportConfig, _import)
configured(app, "train-encoders", TrainConfig, _train_encoders)


@app.command("inspect")
def inspect_cache(
    cache: Annotated[str, typer.Argument(help="Cache file, or its name in caches/.")], json: Json = False
) -> None:
    """What is in a cache."""
    from amr.common.workspace import find_cache
    from amr.extract.cache.verify import inspect

    result = inspect(find_cache(cache, "CACHE"))
    show(result, json, lambda: lines(result))


@app.command("verify")
def verify_cache(
    cache: Annotated[str, typer.Argument(help="Cache file, or its name in caches/.")], json: Json = False
) -> None:
    """Check a cache: checksums, finite values, counts. Exit 1 on damage."""
    from amr.common.workspace import find_cache
    from amr.extract.cache.verify import verify

    result = verify(find_cache(cache, "CACHE"))
    show(result, json, lambda: lines(result))
    if result["problems"]:
        raise typer.Exit(1)


# --- fit, predict ----------------------------------------------------------------------------------------------------


def _fit(config: FitConfig, as_json: bool) -> None:
    """Fit a fusion head on a cache, with the attribution regularizer where --amr-ratio asks for it."""
    from amr.fusion.fit import fit

    with progress_bar("fitting") as update:
        result = fit(config, update)
    for note in result.record.notes:
        say(note)
    show(result.to_json(), as_json, lambda: measures_table({"val": result.val, "test": result.test}))
    say(f"written to {result.run}")


configured(app, "fit", FitConfig, _fit)


def _sweep(config: SweepConfig, as_json: bool) -> None:
    """Fit every combination of heads, methods, ratios, weights, learning rates and seeds, together."""
    from amr.fusion.sweep.summary import best_by_val, draw
    from amr.fusion.sweep.sweep import sweep
    from amr.fusion.sweep_progress import stderr_progress

    with stderr_progress() as progress:
        result = sweep(config, progress)
    for note in result.notes:
        say(note)
    if not result.rows and not result.diverged:
        say("the clips have neither a val nor a test part: the runs are written, and nothing is measured")
        show([], as_json, lambda: "")
        return
    if result.rows:
        show(list(result.rows), as_json, lambda: table("best by val", *best_by_val(result.table)))
        say(f"{result.folder / 'results.csv'}, {draw(result)}")
    _refuse_diverged(result.diverged)


def _refuse_diverged(names: Sequence[str]) -> None:
    if names:
        raise RuntimeError(f"{len(names)} runs did not stay finite and have no results: {', '.join(names)}.")


def _swept(name: str, help: str) -> inspect.Parameter:
    flag = f"--{name.replace('_', '-')}"
    return parameter(name, Annotated[str | None, typer.Option(flag, help=help)], None)


def _sweep_config(*, seeds: int | None, group_size: int | None, **values: Any) -> SweepConfig:
    swept = {name: values.pop(name) for name in SWEPT}
    return SweepConfig.parse(seeds=seeds, group_size=group_size, swept=swept, **values)


_SEEDS = Annotated[int | None, typer.Option(help="So many seeds from 0, instead of --seed.")]
_GROUP_SIZE = Annotated[int | None, typer.Option(help="Runs trained at once; by default what fits the device.")]
configured(
    app,
    "sweep",
    FitConfig,
    _sweep,
    build=_sweep_config,
    instead={
        **{name: _swept(name, help) for name, help in SWEPT.items()},
        "seeds": parameter("seeds", _SEEDS, None),
        "group_size": parameter("group_size", _GROUP_SIZE, None),
    },
)


def _table(request: tuple[FitConfig, int, int | None], as_json: bool) -> None:
    """The paper's table 1 on a cache: every method without and with AMR, over seeds, with a paired test."""
    from amr.fusion.sweep.table import make_table
    from amr.fusion.sweep_progress import stderr_progress

    with stderr_progress() as progress:
        made = make_table(*request, progress)
    what = f"test, mean and 95 % interval of {made.num_seeds} seeds; p of AMR against none, paired, Holm"
    show(list(made.rows), as_json, lambda: table(what, *made.cells()))
    say(f"table.csv, .md, .tex and .json in {made.folder}")
    _refuse_diverged(made.diverged)


def _table_request(*, seeds: int, group_size: int | None, **values: Any) -> tuple[FitConfig, int, int | None]:
    if seeds < 1:
        raise ValueError(f"--seeds must be 1 or more, got {seeds}. Pass --seeds 5.")
    if str(values["amr_ratio"]).lower() == "none" and values["amr_ratio"] is not None:
        raise ValueError("--amr-ratio must be a ratio, got 'none': the left columns are without AMR. Pass 1:1.")
    return FitConfig(**values), seeds, group_size


_ADAPTER = Annotated[str, typer.Option(help="Trainable tail on each embedding, the same in every row: linear or mlp.")]
configured(
    app,
    "table",
    FitConfig,
    _table,
    build=_table_request,
    instead={
        "method": None,
        "seed": None,
        "method_option": None,
        "adapter": parameter("adapter", _ADAPTER, "linear"),
        "seeds": parameter("seeds", Annotated[int, typer.Option(help="So many seeds from 0.")], 5),
        "group_size": parameter("group_size", _GROUP_SIZE, None),
    },
)


def _report(config: ReportConfig, as_json: bool) -> None:
    """One self-contained page of pictures and tables about folders of runs, sweeps and tables."""
    from amr.fusion.report.page import write_report

    with progress_bar("reading") as update:
        result = write_report(config, update)
    show(result.to_json(), as_json, lambda: str(result.out))


_DIRS = Annotated[list[str], typer.Argument(metavar="DIR", help="Folders of amr fit, amr sweep or amr table.")]
configured(app, "report", ReportConfig, _report, instead={"dirs": parameter("dirs", _DIRS, inspect.Parameter.empty)})


def _evaluate(config: EvaluateConfig, as_json: bool) -> None:
    """What fitted heads rely on: missing modalities, noise, conflict, calibration, people; one run or a whole sweep."""
    from amr.fusion.evaluate.evaluate import evaluate
    from amr.fusion.evaluate.tables import differences_table, reading, settings_table

    with progress_bar("evaluating") as update:
        result = evaluate(config, update)
    document = result.document
    show(document, as_json, lambda: table("test", *settings_table(document)))
    if not as_json and document["comparisons"]:
        what = "AMR against none, paired; * p < .05, t-test, Holm"
        show(None, False, lambda: table(what, *differences_table(document)))
    if not as_json:
        say(reading(document))
    say(f"evaluation.json, .csv and .npz in {result.folder}")


_RUN = Annotated[Path, typer.Argument(help="Folder of a run, of amr sweep or of amr table.")]
configured(
    app,
    "evaluate",
    EvaluateConfig,
    _evaluate,
    instead={"run": parameter("run", _RUN, inspect.Parameter.empty)},
)


@app.command("predict")
def predict_clips(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    clips: Annotated[list[str] | None, typer.Argument(help="Media files, or ids of cached clips.")] = None,
    clip: Annotated[list[str] | None, typer.Option(help="One more clip; --clip=ID for ids that begin with -.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    json: Json = False,
) -> None:
    """Class, probability and shares of new media files or cached clips."""
    from amr.fusion.predict import predict

    predictions = predict(run, [*(clips or []), *(clip or [])], device)
    rows = [dataclasses.asdict(prediction) for prediction in predictions]
    columns = ["clip", "class", "probability", "shares", "note"]
    shares = [", ".join(f"{m} {cell(share)}" for m, share in p.share.items()) for p in predictions]
    cells = [[p.clip, p.pred, p.probability, s, p.note] for p, s in zip(predictions, shares, strict=True)]
    show(rows, json, lambda: table("", columns, cells))
    if all(prediction.pred is None for prediction in predictions):
        raise RuntimeError("no clip could be predicted: none has one of the run's modalities.")


@app.command("explain")
def explain_clip(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    clip: Annotated[str | None, typer.Argument(help="Media file, or id of a cached clip.")] = None,
    clip_option: Annotated[
        str | None, typer.Option("--clip", help="The clip; --clip=ID for an id that begins with -.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Picture to write, .png, .svg or .pdf; explain_CLIP.png in the run by default.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    json: Json = False,
) -> None:
    """One clip, one picture: shares by each attribution, the answer without each modality, and when each mattered."""
    from amr.fusion.explain.config import ExplainConfig
    from amr.fusion.explain.explain import explain

    named = [given for given in (clip, clip_option) if given is not None]
    if len(named) != 1:
        raise ValueError(f"amr explain must be given one clip, got {len(named)}. Name a media file or a cached id.")
    explanation = explain(ExplainConfig(run, named[0], out, device))
    show(explanation.to_json(), json, lambda: explanation_table(explanation.to_json()))
    say("; ".join([*explanation.notes, f"drawn in {explanation.picture}"]))


@app.command("demo")
def demo(
    out: Annotated[
        Path | None, typer.Option(help="Folder of clips, cache, runs and picture; demo/ by default.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of clips and fits.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    json: Json = False,
) -> None:
    """The whole pipeline on clips that it renders itself: extraction, a sweep over ratios, a table, a picture."""
    from amr.common.workspace import home
    from amr.fusion.demo import demo

    result = demo(out or home() / "demo", seed, say, device)
    show(result.to_json(), json, result.to_text)
