"""The command line: parse -> frozen config -> one call -> print.

torch is imported inside commands only, so that help is quick. Progress and messages go to stderr, results to stdout.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from amr.common.cluster.options import ClusterOptions
from amr.common.files import check_writable
from amr.common.options import MODEL, OUTPUT, REGULARIZER, SOURCE, SPEED, TRAINING, quoted
from amr.common.workspace import find_cache, find_run
from amr.console.commands import Json, cluster_options, configured, field_option, lists, parameter, taken_cluster
from amr.console.fitted import add_fitted
from amr.console.frontier import add_frontier
from amr.console.listings import add_listings
from amr.console.output import (
    lines,
    measures_table,
    refuse_diverged,
    say,
    say_next,
    say_notes,
    say_results,
    show,
    table,
)
from amr.console.progress import stderr_progress
from amr.console.refusals import run_app
from amr.console.runs import add_runs
from amr.console.signals import Handler
from amr.console.training import add_train_encoders, table_config, table_options
from amr.extract.config import ExtractConfig, ImportConfig, MergeConfig, check_dataset, check_request
from amr.fusion.config import FitConfig
from amr.fusion.report.config import ReportConfig
from amr.fusion.swept import SWEPT, SweepConfig, swept_values

app = typer.Typer(
    name="amr",
    help="Does your model listen, look, or both? Embeddings once, then fusion heads with attribution regularization.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `amr` and exit: 0 done, 1 the work failed, 2 the request was wrong."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None, at_start: Handler | None = None) -> int:
    """Run `amr` with these arguments and return its exit status.

    With AMR_TRACEBACK set, errors keep their traceback.

    Args:
        arguments: Arguments; those of the program by default.
        at_start: Handler of signals that this program has set for its start.
    """
    return run_app(app, arguments, at_start)


def _print_version(requested: bool) -> None:
    if requested:
        from amr.common.version import __version__

        show(None, False, lambda: f"amr {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Options of `amr` itself."""


add_listings(app)


# --- manifest, extract, cache ----------------------------------------------------------------------------------------


@app.command("manifest")
def manifest(
    dataset: Annotated[str, typer.Option(help="Dataset; amr datasets lists them.")],
    root: Annotated[Path | None, typer.Option(help="Folder of the media; data/DATASET by default.")] = None,
    out: Annotated[Path | None, typer.Option(help="New CSV to write the manifest to.")] = None,
    json: Json = False,
) -> None:
    """Find a dataset's media, check them against its list, and report what is missing or known to be bad."""
    check_dataset(dataset)
    from amr.data_manifests.datasets import build_manifest
    from amr.data_manifests.manifest import write_manifest

    if out is not None:
        if out.is_dir() or (out.exists() and out.suffix != ".csv"):
            raise ValueError(f"--out must be a .csv or a new file, got {str(out)!r}. Choose another name.")
        check_writable(out.parent, "--out", "Pass --out with a CSV elsewhere.")
    built, report = build_manifest(dataset, root)
    if out is not None:
        write_manifest(built, out)
        say(f"{len(built)} clips written to {out}")
    show(report.to_json(), json, report.to_text)


def _extract(config: ExtractConfig, as_json: bool) -> None:
    """Decode every clip once, run every encoder over it, and write the embeddings to a cache."""
    check_request(config)
    from amr.extract.run import extract_embeddings

    with stderr_progress() as progress:
        result = extract_embeddings(config, progress)
    show(result.to_json(), as_json, lambda: lines(result.summary()))
    if result.failed:
        say("failed clips stay failed; add --resume to try them again")
    if config.shard is None:
        _check_any_embedded(result.embedded, result.clips, result.cache)


def _check_any_embedded(embedded: Mapping[str, int], num_clips: int, cache: Path) -> None:
    if sum(embedded.values()) == 0:
        raise RuntimeError(
            f"at least one clip must be embedded, got none of {num_clips}. Run amr inspect {quoted(cache)} to see why."
        )


def _import(config: ImportConfig, as_json: bool) -> None:
    """Make a cache from existing embeddings."""
    from amr.extract.import_embeddings import import_embeddings

    result = import_embeddings(config)
    show(result.to_json(), as_json, lambda: lines(result.summary()))


def _merge(config: MergeConfig, as_json: bool) -> None:
    """Join the caches of amr extract --shard into one."""
    for name in config.shards:
        find_cache(name, "SHARD")
    from amr.extract.shards.merge import merge_shards

    with stderr_progress() as progress:
        result = merge_shards(config, progress)
    show(result.to_json(), as_json, lambda: lines(result.to_json() | {"notes": []}))
    _check_any_embedded(result.embedded, result.clips, result.cache)
    say("the shards are not needed any more")


_SHARDS = Annotated[list[str], typer.Argument(metavar="SHARD", help="Caches of amr extract --shard, or their names.")]
configured(app, "extract", ExtractConfig, _extract)
configured(app, "merge", MergeConfig, _merge, instead={"shards": parameter("shards", _SHARDS, inspect.Parameter.empty)})
configured(app, "import", ImportConfig, _import)
add_train_encoders(app)


@app.command("inspect")
def inspect_cache(
    cache: Annotated[str, typer.Argument(help="Cache file, or its name in caches/.")], json: Json = False
) -> None:
    """Show the contents of a cache."""
    file = find_cache(cache, "CACHE")
    from amr.extract.cache.verify import inspect

    result = inspect(file)
    show(result, json, lambda: lines(result))


@app.command("verify")
def verify_cache(
    cache: Annotated[str, typer.Argument(help="Cache file, or its name in caches/.")], json: Json = False
) -> None:
    """Check a cache: checksums, finite values, counts. The exit status is 1 if it is damaged."""
    file = find_cache(cache, "CACHE")
    from amr.extract.cache.verify import verify

    result = verify(file)
    show(result, json, lambda: lines(result))
    if result["problems"]:
        say(_way_out(result))
        raise typer.Exit(1)


def _way_out(damaged: Mapping[str, Any]) -> str:
    if any(problem.startswith("not a") for problem in damaged["problems"]):
        return "pass a cache that this version of amr can read, such as amr extract and amr import make"
    if damaged["clips"] and not damaged["complete"]:
        return "the extraction is not finished: the same command again makes damaged rows anew"
    return "extract or import the cache again with --overwrite, or copy it again from an intact one"


# --- fit, predict ----------------------------------------------------------------------------------------------------


def _fit(request: tuple[FitConfig, bool], as_json: bool) -> None:
    """Fit a fusion head on a cache; --amr-ratio adds the attribution regularizer."""
    config, overwrite = request
    find_cache(config.cache)  # a wrong name is refused before torch is imported
    from amr.fusion.fit import fit

    with stderr_progress() as progress:
        result = fit(config, progress, overwrite=overwrite)
    say_notes(result.record.notes, result.warnings)
    show(result.to_json(), as_json, lambda: measures_table(result.record, {"val": result.val, "test": result.test}))
    say(f"written to {result.run}")


def _fit_request(*, overwrite: bool, **values: Any) -> tuple[FitConfig, bool]:
    return FitConfig(**values), overwrite


def _overwrite_option(what: str) -> inspect.Parameter:
    option = typer.Option("--overwrite", help=f"Replace {what} in --out.", rich_help_panel=OUTPUT)
    return parameter("overwrite", Annotated[bool, option], False)


configured(
    app,
    "fit",
    FitConfig,
    _fit,
    build=_fit_request,
    instead={"overwrite": _overwrite_option("a run of other settings")},
)


def _sweep(request: tuple[SweepConfig, bool, ClusterOptions], as_json: bool) -> None:
    """Fit every combination of heads, methods, ratios, weights, learning rates and seeds, together."""
    config, overwrite, cluster = request
    find_cache(config.base.cache)
    from amr.fusion.sweep.sweep import sweep

    with stderr_progress() as progress:
        result = sweep(config, progress, overwrite=overwrite, cluster=cluster)
    say_results(result, as_json)


def _swept(field: dataclasses.Field[Any]) -> inspect.Parameter:
    return field_option(field, str | None, None, more_help=lists(field.name), show_default=False)


def _sweep_request(
    *, seeds: int | None, group_size: int | None, overwrite: bool, **values: Any
) -> tuple[SweepConfig, bool, ClusterOptions]:
    cluster = taken_cluster(values)
    swept = {name: values.pop(name, None) for name in SWEPT}  # a recipe may have some
    return SweepConfig.parse(seeds=seeds, group_size=group_size, swept=swept, **values), overwrite, cluster


_GROUP_SIZE = Annotated[
    int | None,
    typer.Option(help="Number of runs trained at once; by default all that fit the device.", rich_help_panel=SPEED),
]
_SEEDS_HELP = "Number of seeds, 0 to N-1; replaces --seed."
configured(
    app,
    "sweep",
    FitConfig,
    _sweep,
    build=_sweep_request,
    instead={
        **{field.name: _swept(field) for field in dataclasses.fields(FitConfig) if field.name in SWEPT},
        "seeds": parameter("seeds", Annotated[int | None, typer.Option(help=_SEEDS_HELP, rich_help_panel=SPEED)], None),
        "group_size": parameter("group_size", _GROUP_SIZE, None),
        "overwrite": _overwrite_option("a sweep of other settings"),
        **cluster_options(),
    },
)


def _table(request: dict[str, Any], as_json: bool) -> None:
    """Make the paper's table 1: every method without and with AMR, over seeds, with a paired test.

    The heads are fitted on a cache; with --end-to-end, encoders are trained with them on --dataset or --manifest.
    """
    config = request["config"]
    trains_encoders = not isinstance(config, FitConfig)
    if trains_encoders:
        check_request(config)
    else:
        find_cache(config.cache)
    from amr.fusion.sweep.table import make_table, make_table_end_to_end

    with stderr_progress() as progress:
        made = (make_table_end_to_end if trains_encoders else make_table)(**request, progress=progress)
    say_notes(made.notes, made.warnings)
    show(list(made.rows), as_json, lambda: table(made.title, *made.stacked()))
    say(f"table.csv, .md, .tex and .json in {made.folder}")
    say_next(made.folder)
    refuse_diverged(made.diverged)


def _table_request(
    *, seeds: int, group_size: int | None, overwrite: bool, end_to_end: bool, method: str | None, **values: Any
) -> dict[str, Any]:
    if seeds < 1:
        raise ValueError(f"--seeds must be 1 or more, got {seeds}. Pass --seeds 5.")
    ratio = values["amr_ratio"]
    names = () if method is None else swept_values(FitConfig(), "method", [name.strip() for name in method.split(",")])
    if end_to_end and group_size is not None:
        raise ValueError(f"--group-size must be left out with --end-to-end, got {group_size}. Leave it out.")
    request = {
        "config": table_config(values, end_to_end=end_to_end),
        "num_seeds": seeds,
        "names": names,
        "with_amr": ratio is None or ratio.strip().lower() != "none",
        "overwrite": overwrite,
    }
    return request if end_to_end else request | {"group_size": group_size}


_ADAPTER = "Trainable layer on each embedding, the same in every row: none, linear or mlp."
_RATIO = "Target shares of the columns with AMR, such as 3:1; none leaves them out. By default equal shares."
_END_TO_END = "Train encoders with each row's head on --dataset or --manifest, instead of heads on --cache."
_METHODS = "Methods of the rows, separated by commas, or all; by default those of the paper's table."
configured(
    app,
    "table",
    FitConfig,
    _table,
    build=_table_request,
    instead=table_options()
    | {
        "method": parameter("method", Annotated[str | None, typer.Option(help=_METHODS, rich_help_panel=MODEL)], None),
        "recipe": None,
        "seed": None,
        "method_option": None,
        "adapter": parameter("adapter", Annotated[str, typer.Option(help=_ADAPTER, rich_help_panel=MODEL)], "linear"),
        "amr_ratio": parameter(
            "amr_ratio", Annotated[str | None, typer.Option(help=_RATIO, rich_help_panel=REGULARIZER)], None
        ),
        "seeds": parameter(
            "seeds", Annotated[int, typer.Option(help="Number of seeds, 0 to N-1.", rich_help_panel=TRAINING)], 5
        ),
        "group_size": parameter("group_size", _GROUP_SIZE, None),
        "end_to_end": parameter(
            "end_to_end", Annotated[bool, typer.Option("--end-to-end", help=_END_TO_END, rich_help_panel=SOURCE)], False
        ),
        "overwrite": _overwrite_option("a table of other settings"),
    },
)


add_frontier(app)


def _report(config: ReportConfig, as_json: bool) -> None:
    """Write one self-contained page of pictures and tables about folders of runs, sweeps and tables."""
    for folder in config.dirs:
        find_run(folder, "DIR")  # before torch is imported
    from amr.fusion.report.page import report

    with stderr_progress() as progress:
        result = report(config, progress)
    show(result.to_json(), as_json, lambda: str(result.out))


_DIRS = Annotated[
    list[str], typer.Argument(metavar="DIR", help="Folders of amr fit, amr sweep or amr table, or names in runs/.")
]
configured(app, "report", ReportConfig, _report, instead={"dirs": parameter("dirs", _DIRS, inspect.Parameter.empty)})


add_fitted(app)
add_runs(app)


@app.command("demo")
def demo(
    out: Annotated[
        Path | None, typer.Option(help="Folder of clips, cache, runs and picture; demo/ by default.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of clips and fits.")] = 0,
    device: Annotated[str, typer.Option(help="Device: auto, cpu or cuda.")] = "auto",
    json: Json = False,
) -> None:
    """Run the whole pipeline on rendered clips: extraction, a sweep over ratios, a table, a picture."""
    from amr.common.workspace import home
    from amr.fusion.demo import demo

    result = demo(out or home() / "demo", seed, say, device)
    show(result.to_json(), json, lambda: table(*result.cells()))
    if not json:
        show(None, False, lambda: f"\n{result.reading()}")
    say(f"the picture is {result.picture}, the page of the sweep: amr report {quoted(result.sweep)}")
