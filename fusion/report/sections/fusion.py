"""What fusion finds and loses: rescue and modality confusion, and how much the modalities interact."""

from __future__ import annotations

from collections.abc import Sequence

from amr.fusion.report.plots.bars import grouped_bars
from amr.fusion.report.plots.picture import Picture, of_all
from amr.fusion.report.read import ResultFolder
from amr.fusion.report.sections.base import sections
from amr.fusion.report.settings import Setting, shown
from amr.fusion.report.tables import MAX_NAMED, Cell, fraction, make_table, side_by_side

MAX_COLUMNS = 3  # modalities whose bars stand side by side
WHOLE = {  # column to the measure of all modalities
    "cooperation": "cooperation",
    "interaction share, logit": "interaction.logit",
    "interaction share, probability": "interaction.probability",
    "gained by interactions": "emap_gap",
}


@sections.register("fusion")
def fusion(results: ResultFolder, settings: Sequence[Setting]) -> Picture | None:
    """Bars of rescue and of each modality's confusion; interactions are in the table."""
    measured = [setting for setting in settings if setting.mean("rescue") is not None]
    if not measured:
        return None
    selected = shown(measured)
    bars = {"rescue": "rescue"} | {f"modality confusion of {m}": f"confusion.{m}" for m in results.modalities}
    # short, for phones
    ticks = [words.removeprefix("modality ").replace(" of ", "\nof ") for words in bars]
    drawn = grouped_bars(
        ticks,
        [(setting, [*bars.values()]) for setting in selected],
        "fraction of the clips",
        in_rows=len(results.modalities) > MAX_COLUMNS,
    )
    order = "/".join(results.modalities) if len(results.modalities) <= MAX_NAMED else "of each"
    pairs = {f"modality confusion {order}": "confusion", f"utilization {order}": "utilization"}
    rows = [
        [
            setting.label,
            setting.mean("rescue"),
            *(_of_each(setting, name) for name in pairs.values()),
            *(setting.mean(name) for name in WHOLE.values()),
        ]
        for setting in measured
    ]
    first = selected[0]
    listed = [f"{words} {fraction(first.mean(name))}" for words, name in bars.items()]
    return Picture(
        "fusion",
        "What fusion finds and loses",
        "Rescue: clips that are right with all modalities and wrong with each alone. Modality confusion: clips that "
        "are right with that modality alone and wrong with all. Alone, the others are at their train mean. The table "
        "has how much the modalities interact: interaction shares are 0 for a sum of the modalities, and what "
        "interactions gain is the accuracy minus that of the sum closest to the head (EMAP)."
        + of_all(selected, measured),
        f"Bars of rescue and modality confusion for {len(selected)} settings. {first.label}: {'; '.join(listed)}.",
        {"": drawn},
        make_table(
            "fusion-data",
            "Rescue, modality confusion, utilization (accuracy lost with the modality at its train mean, over the "
            "accuracy), and interaction; means over seeds.",
            ["setting", "rescue", *pairs, *WHOLE],
            rows,
        ),
    )


def _of_each(setting: Setting, name: str) -> Cell:
    values = setting.by_modality(name)
    return Cell(side_by_side(values), next(iter(values.values())), True)
