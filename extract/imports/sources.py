"""Files of an import, whose rows are joined by id if they have ids, else by row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from amr.common.files.memory import check_memory
from amr.data_manifests.schema import counted
from amr.extract.arrays import ArraySpec, Expected, Rows, parse_array_spec, read_array, read_rows
from amr.extract.imports.text import to_texts

# Files that hold arrays by key, which may be ids of clips.
_KEYED = (".npz", ".mat", ".pt", ".npy")
BYTES_PER_TEXT = 128  # of a short text in a list, a table and a set


@dataclass(frozen=True)
class Source:
    """Rows of one option.

    Attributes:
        name: Option, for messages, such as "--embeddings audio".
        spec: File and keys.
        rows: Rows of the file.

    Raises:
        ValueError: There are no rows.
    """

    name: str
    spec: ArraySpec
    rows: Rows

    def __post_init__(self) -> None:
        """Check the number of rows."""
        if len(self.rows) == 0:
            raise ValueError(
                f"{self.name} must have one row per clip, got no rows, {self.rows.values.shape} in {self.spec}. "
                "Name another file or key."
            )


@dataclass(frozen=True)
class ClipIds:
    """Ids of the clips, in the order of the cache.

    Attributes:
        ids: Ids.
        given: Whether a file gives them; else they are row numbers.
        reference: Source of the number of clips, if rows are joined by row.
        ids_file: Path of the file that --ids names, as text; "" if it names none.
    """

    ids: list[str]
    given: bool
    reference: Source | None
    ids_file: str

    def __len__(self) -> int:
        return len(self.ids)


def read_embedding_sources(
    files: Mapping[str, str], ids: str | None, labels: str | None, dtype: str
) -> dict[str, Source]:
    """Read the rows of every embedding.

    Args:
        files: Embedding name -> FILE[:KEY...].
        ids: FILE of --ids.
        labels: FILE of --labels, whose ids may tell arrays of clips from others.
        dtype: Type of the cache.
    """
    specs = {name: parse_array_spec(text, f"--embeddings {name}") for name, text in files.items()}
    known: set[str] = set()
    if any(spec.path.suffix.lower() in _KEYED and not spec.keys for spec in specs.values()):
        if ids is not None:
            known |= set(to_texts(read_array(parse_array_spec(ids, "--ids"), Expected("id"))))
        if labels is not None:
            known |= set(read_rows(parse_array_spec(labels, "--labels"), Expected("label", ids=known)).ids or ())
    # float16 by way of float32 would round twice
    expected = Expected(ids=known, dtype="float32" if dtype == "float32" else "float64")
    return {name: Source(f"--embeddings {name}", spec, read_rows(spec, expected)) for name, spec in specs.items()}


def choose_ids(embeddings: Sequence[Source], ids: str | None) -> ClipIds:
    """Ids of the clips: those of --ids, else those of the embeddings that have ids, else row numbers.

    Raises:
        ValueError: The embeddings that have no ids differ in length, or ids are empty or repeated.
    """
    without_ids = [source for source in embeddings if source.rows.ids is None]
    for source in without_ids[1:]:
        check_length(source, without_ids[0])
    for source in embeddings:
        _check_own_ids(source)
    reference = without_ids[0] if without_ids else None
    own = list(dict.fromkeys(id_ for source in embeddings for id_ in source.rows.ids or ()))
    if ids is not None:
        spec = parse_array_spec(ids, "--ids")
        expected = Expected("id", len(reference.rows) if reference else None, own)
        given = flat(Source("--ids", spec, read_rows(spec, expected)))
        # a table in which --ids names another column than id
        reference = reference or next((each for each in embeddings if each.spec.path == spec.path), None)
        if reference is not None:
            check_length(given, replace(reference, name="the embeddings"))
        return ClipIds(one_per_clip(given, verbatim=True), True, reference or given, str(spec.path))
    with_ids = [source for source in embeddings if source.rows.ids is not None]
    if reference is not None and any(list(source.rows.ids or ()) != own for source in with_ids):
        raise ValueError(
            f"{reference.name} must have ids, since the other embeddings have different ones, got rows without. "
            "Pass --ids FILE with the id of each of its rows."
        )
    if own and reference is not None:
        check_length(reference, with_ids[0])
    if own:
        return ClipIds(own, True, reference, "")
    if reference is None:
        raise ValueError("--embeddings must have a row, got none. Check the files.")
    check_memory(BYTES_PER_TEXT * len(reference.rows), f"the ids of {reference.name}", "Save fewer rows.")
    return ClipIds([str(row) for row in range(len(reference.rows))], False, reference, "")


def _check_own_ids(source: Source) -> None:
    counts = Counter(source.rows.ids or ())
    repeated = next((id_ for id_, count in counts.items() if count > 1 or not id_), None)
    if repeated is not None:
        raise ValueError(
            f"{source.name} must have one row per id, got {repeated!r} {counts[repeated]} times in {source.spec}. "
            "Save one row per clip, or (clips, steps, dim)."
        )


def match(source: Source, clips: ClipIds) -> tuple[np.ndarray | None, list[str]]:
    """Row of each clip in a source, -1 for none, and notes on what does not match. None if they have the same order.

    Rows with ids are joined by id if the clips have ids, too. Others are joined by row.

    Raises:
        ValueError: No id or not the number of rows matches.
    """
    ids = source.rows.ids
    if ids is None or not clips.given or str(source.spec.path) == clips.ids_file:
        if len(source.rows) != len(clips):
            if clips.reference is None:
                raise ValueError(
                    f"{source.name} must have ids or as many rows as there are clips ({len(clips)}), got "
                    f"{len(source.rows)}. Pass a table with a column id."
                )
            check_length(source, replace(clips.reference, name="the embeddings"))
        if ids is None and clips.given and not clips.ids_file:
            order = ", ".join(clips.ids[:3])
            return None, [f"{source.name}: {source.spec} has no ids; its rows count as those of {order}, ..."]
        return None, []
    if list(ids) == clips.ids:
        return None, []
    _check_own_ids(source)
    row_of = {id_: row for row, id_ in enumerate(ids)}
    rows = np.array([row_of.get(id_, -1) for id_ in clips.ids])
    num_matched = int((rows >= 0).sum())
    if num_matched == 0:
        raise ValueError(
            f"{source.name} must share ids with the clips, got {ids[0]!r}, ... in {source.spec} and "
            f"{clips.ids[0]!r}, ... in the others. Correct the ids."
        )
    note = f"{source.name}: joined on id, with a row for {num_matched} of {len(clips)} clips"
    num_extra = len(ids) - num_matched
    note += f"; left out: {counted(num_extra, 'id', 'ids')} of no clip" if num_extra else ""
    return rows, [note]


def join(source: Source, clips: ClipIds) -> tuple[Rows, list[str]]:
    """Rows of a source in the order of the clips, as `match` finds them; a clip without a row gets None or NaN."""
    order, notes = match(source, clips)
    if order is None:
        return source.rows, notes
    values = source.rows.values[order]
    if (order < 0).any():
        values = values.astype(np.result_type(values.dtype, np.float32) if values.dtype.kind in "iuf" else object)
        values[order < 0] = np.nan if values.dtype.kind == "f" else None
    return replace(source.rows, values=values, ids=tuple(clips.ids)), notes


def check_length(source: Source, reference: Source) -> None:
    """Raise ValueError for a source whose number of rows is not the reference's, with a possible reason."""
    got, wanted = len(source.rows), len(reference.rows)
    if got == wanted:
        return
    text = f"{source.name} must have as many rows as {reference.name} ({wanted}), got {got} in {source.spec}"
    raise ValueError(
        f"{text}. {_transposed(source, reference) or _header(source, reference) or _first_rows(source, reference)}"
    )


def _transposed(source: Source, reference: Source) -> str | None:
    """Advice for an array whose clips are not on the first axis."""
    for each, other in ((source, reference), (reference, source)):
        shape = each.rows.values.shape
        axis = next((axis for axis, length in enumerate(shape) if axis and length == len(other.rows)), None)
        if axis is not None:
            change = "x.T" if len(shape) == 2 else f"np.moveaxis(x, {axis}, 0)"
            return (
                f"{each.spec} is {shape}, and {len(other.rows)} may be its clips: it must have one row per clip. "
                f"Save it transposed, as {change}."
            )
    return None


def _header(source: Source, reference: Source) -> str | None:
    """Advice for text files in which the first line makes the difference."""
    shorter, longer = sorted((source, reference), key=lambda each: len(each.rows))
    if len(longer.rows) - len(shorter.rows) != 1:
        return None
    if shorter.rows.header is not None:
        return (
            f"The first line of {shorter.spec.path.name}, {_cut(shorter.rows.header)!r}, was taken for a header: "
            "if it is none, write a header above it."
        )
    if longer.rows.first_value is not None:
        return (
            f"If the first line of {longer.spec.path.name}, {_cut(longer.rows.first_value)!r}, is a header, delete it."
        )
    lines = next((each for each in (shorter, longer) if each.rows.header or each.rows.first_value), None)
    return None if lines is None else f"Find the missing or additional line of {lines.spec.path.name}."


def _first_rows(source: Source, reference: Source) -> str:
    shorter, longer = sorted((source, reference), key=lambda each: len(each.rows))
    number = len(shorter.rows)
    rows = "row of {} is that" if number == 1 else f"{number} rows of {{}} are those"
    return f"If the first {rows.format(longer.name)} of {shorter.name}, pass FILE:{number} there."


def one_per_clip(source: Source, *, verbatim: bool = False) -> list[str]:
    """Text of each row. Whole numbers become 3, not 3.0; `verbatim` leaves values stored as text unchanged.

    Raises:
        ValueError: The file has more than one value per row.
    """
    values = source.rows.values
    if values.ndim > 2 or values.size != max(values.shape):  # MATLAB stores a list as one row
        columns = "" if source.rows.header is None else f" with the header {_cut(source.rows.header)!r}"
        advice = source.spec.other("with one value per clip")
        if source.name == "--labels" and values.ndim == 2:
            advice += (
                " For several labels per clip, pass --columns CSV with a column of 0 and 1 per label, "
                "and name the columns in amr fit --task multilabel --label A,B."
            )
        raise ValueError(
            f"{source.name} must be one value per clip, got {values.shape} in {source.spec}{columns}. {advice}"
        )
    check_memory(BYTES_PER_TEXT * values.size, source.name, "Name a file with one value per clip.")
    return to_texts(np.asarray(values), verbatim=verbatim)


def flat(source: Source) -> Source:
    """Source whose only row or column, as MATLAB stores a list, is one value per row."""
    values = source.rows.values
    if isinstance(values, np.ndarray) and values.ndim == 2 and values.size == max(values.shape):
        return replace(source, rows=replace(source.rows, values=values.ravel()))
    return source


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
