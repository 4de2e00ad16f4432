from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.io import savemat

from amr.extract.cache.reader import Cache
from amr.extract.cache.verify import verify
from amr.extract.config import ImportConfig
from amr.extract.import_embeddings import ImportResult, import_embeddings

NUM_CLIPS = 8
ROWS = np.arange(NUM_CLIPS * 3, dtype=np.float32).reshape(NUM_CLIPS, 3) / 8
IDS = [f"c{i}" for i in range(NUM_CLIPS)]
LABELS = list("abcabcab")
ORDER = [3, 1, 7, 0, 5, 2, 6, 4]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """The current folder, with embeddings, ids and labels in one order."""
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", ROWS)
    Path("ids.txt").write_text("\n".join(IDS) + "\n")
    Path("labels.txt").write_text("\n".join(LABELS) + "\n")
    table = pd.DataFrame({"id": IDS, "label": LABELS}).assign(f0=ROWS[:, 0], f1=ROWS[:, 1])
    table.iloc[ORDER].to_csv("shuffled.csv", index=False)
    return tmp_path


def run(*embeddings: str, **options: object) -> ImportResult:
    config = ImportConfig(embeddings=embeddings or ("a=a.npy",), out="./o.h5", overwrite=True, **options)
    result = import_embeddings(config)
    assert verify(Path("./o.h5"))["problems"] == []
    return result


def rows_by_id(name: str = "a") -> dict[str, list[float]]:
    with Cache.open(Path("./o.h5")) as cache:
        rows = zip(cache.table()["id"], cache.embedding(name), cache.present(name), strict=True)
        return {id_: row.tolist() for id_, row, present in rows if present}


def label_of(result: ImportResult) -> dict[str, str]:
    return dict(zip(result.table["id"], result.table["label"], strict=True))


def test_labels_in_another_order_are_joined_on_id():
    result = run(ids="ids.txt", labels="shuffled.csv:label")
    assert list(result.table["id"]) == IDS
    assert list(result.table["label"]) == LABELS
    assert result.notes == ["--labels: joined on id, with a row for 8 of 8 clips"]


def test_groups_splits_and_lengths_are_joined_on_id_too():
    np.save("s.npy", np.ones((NUM_CLIPS, 9, 2)))
    table = pd.DataFrame({"id": IDS, "group": [f"g{i}" for i in range(NUM_CLIPS)], "length": range(1, 9)})
    table["split"] = ["train"] * 4 + ["test"] * 4
    table.iloc[ORDER].to_csv("t.csv", index=False)
    result = run("s=s.npy", ids="ids.txt", labels="labels.txt", groups="t.csv", splits="t.csv", lengths=("t.csv",))
    assert list(result.table["group"]) == list(table["group"])
    assert list(result.table["split"]) == list(table["split"])
    with Cache.open(Path("./o.h5")) as cache:
        assert cache.num_steps("s").tolist() == list(range(1, 9))


def test_ids_and_labels_from_columns_of_the_same_table():
    result = run("a=shuffled.csv:f*", labels="shuffled.csv")
    assert list(result.table["id"]) == [IDS[i] for i in ORDER]
    assert label_of(result) == dict(zip(IDS, LABELS, strict=True))
    assert rows_by_id() == {id_: row[:2].tolist() for id_, row in zip(IDS, ROWS, strict=True)}
    assert result.notes == []
    result = run("a=shuffled.csv", labels="shuffled.csv")
    assert result.dims == {"a": (2,)}
    assert result.notes == ["--embeddings a: the columns id, label of shuffled.csv are no features and are left out"]


def test_embeddings_with_ids_follow_the_ids_option():
    result = run("a=shuffled.csv:f*", "b=a.npy", ids="ids.txt", labels="labels.txt")
    assert list(result.table["id"]) == IDS
    assert rows_by_id("a") == {id_: row[:2].tolist() for id_, row in zip(IDS, ROWS, strict=True)}
    assert rows_by_id("b") == {id_: row.tolist() for id_, row in zip(IDS, ROWS, strict=True)}


def test_ids_of_another_column_of_the_same_table_are_its_rows():
    table = pd.DataFrame({"id": range(NUM_CLIPS), "name": IDS, "label": LABELS, "f0": ROWS[:, 0]})
    table.to_csv("t.csv", index=False)
    result = run("a=t.csv:f0", ids="t.csv:name", labels="t.csv")
    assert label_of(result) == dict(zip(IDS, LABELS, strict=True))


@pytest.mark.parametrize("name", ["many.npz", "many.pt", "many.mat", "clips"])
def test_one_array_per_clip_is_joined_on_id(name):
    arrays = {IDS[i]: ROWS[i] for i in ORDER if i != 2} | {"other": ROWS[0]}
    if name == "many.pt":
        torch.save({id_: torch.from_numpy(row) for id_, row in arrays.items()}, name)
    elif name == "clips":
        Path(name).mkdir()
        for id_, row in arrays.items():
            np.save(Path(name, id_), row)
    else:
        (savemat if name == "many.mat" else lambda file, content: np.savez(file, **content))(name, arrays)
    expected = {id_: row.tolist() for id_, row in zip(IDS, ROWS, strict=True) if id_ != "c2"}
    result = run(f"a={name}", "b=a.npy", ids="ids.txt", labels="labels.txt")
    assert rows_by_id() == expected
    assert result.notes == [
        "--embeddings a: joined on id, with a row for 7 of 8 clips; left out: 1 id of no clip",
        "--embeddings a: 1 row holds only NaN and counts as absent",
    ]
    result = run(f"a={name}{'' if name == 'clips' else ':*'}", labels="shuffled.csv:label")
    assert {id_: row for id_, row in rows_by_id().items() if id_ != "other"} == expected
    assert {id_: label for id_, label in label_of(result).items() if label} == {
        id_: label for id_, label in zip(IDS, LABELS, strict=True) if id_ != "c2"
    }


def test_keys_are_known_as_ids_by_those_of_the_labels():
    np.savez("many.npz", **dict(zip(IDS, ROWS, strict=True)))
    result = run("a=many.npz", labels="shuffled.csv:label")
    assert label_of(result) == dict(zip(IDS, LABELS, strict=True))
    with pytest.raises(ValueError, match=r"many\.npz must be given with a key, got none; it holds c0, c1"):
        run("a=many.npz", labels="labels.txt")


def test_clips_of_several_embeddings_with_ids_are_united():
    np.savez("a.npz", c0=ROWS[0], c1=ROWS[1])
    np.savez("b.npz", c2=ROWS[2], c1=ROWS[1])
    result = run("a=a.npz:*", "b=b.npz:*", labels="shuffled.csv:label")
    assert list(result.table["id"]) == ["c0", "c1", "c2"]
    assert (sorted(rows_by_id("a")), sorted(rows_by_id("b"))) == (["c0", "c1"], ["c1", "c2"])
    np.save("c.npy", ROWS[:3])
    with pytest.raises(ValueError, match=r"--embeddings c must have ids, since .* Pass --ids FILE with the id of each"):
        run("a=a.npz:*", "b=b.npz:*", "c=c.npy", labels="shuffled.csv:label")


def test_rows_without_ids_are_those_of_the_embeddings_and_a_note_says_so():
    result = run("a=shuffled.csv:f*", labels="labels.txt")
    assert list(result.table["label"]) == LABELS
    assert result.notes == ["--labels: labels.txt has no ids; its rows count as those of c3, c1, c7, ..."]


def test_ids_that_match_nothing_or_repeat_are_refused():
    pd.DataFrame({"id": range(NUM_CLIPS), "label": LABELS}).to_csv("rows.csv", index=False)
    with pytest.raises(
        ValueError, match=r"--labels must share ids .*'0', ... in rows.csv and 'c0', .* Correct the ids"
    ):
        run(ids="ids.txt", labels="rows.csv")
    assert list(run(labels="rows.csv").table["label"]) == LABELS  # without --ids, rows are all there is
    pd.DataFrame({"id": ["c0"] * NUM_CLIPS, "label": LABELS}).to_csv("frames.csv", index=False)
    with pytest.raises(ValueError, match=r"--labels must have one row per id, got 'c0' 8 times in frames\.csv"):
        run(ids="ids.txt", labels="frames.csv")
    pd.DataFrame({"id": ["c0"] * NUM_CLIPS, "f": ROWS[:, 0]}).to_csv("frames.csv", index=False)
    with pytest.raises(ValueError, match=r"--embeddings a must have one row per id, got 'c0' 8 times"):
        run("a=frames.csv:f", labels="labels.txt")


def write_transposed() -> dict[str, object]:
    np.save("t.npy", ROWS.T)
    return {"embeddings": ("a=t.npy",)}


def write_transposed_steps() -> dict[str, object]:
    np.save("t.npy", np.ones((3, 5, NUM_CLIPS)))
    return {"embeddings": ("a=t.npy",)}


def write_transposed_second() -> dict[str, object]:
    np.save("t.npy", ROWS.T)
    return {"embeddings": ("a=a.npy", "b=t.npy")}


def write_header_in_text() -> dict[str, object]:
    Path("labels.txt").write_text("emotion\n" + "\n".join(LABELS) + "\n")
    return {}


def write_header_of_many_columns() -> dict[str, object]:
    rows = [f"{label},x" for label in LABELS]
    Path("l.csv").write_text("\n".join(rows))
    return {"labels": "l.csv:a"}


def write_one_line_less() -> dict[str, object]:
    Path("labels.txt").write_text("\n".join(LABELS[1:]))
    return {}


def write_half() -> dict[str, object]:
    np.save("half.npy", ROWS[:4])
    return {"embeddings": ("a=a.npy", "b=half.npy")}


@pytest.mark.parametrize(
    ("write", "message", "first_rows"),
    [
        (
            write_transposed,
            r"got 8 .*t\.npy is \(3, 8\), and 8 may be its clips.* Save it transposed, as x\.T\.",
            False,
        ),
        (write_transposed_steps, r"is \(3, 5, 8\), .* as np\.moveaxis\(x, 2, 0\)\.", False),
        (write_transposed_second, r"--embeddings b must .* \(8\), got 3 in t\.npy\. t\.npy is \(3, 8\)", False),
        (write_header_in_text, r"got 9 .* If the first line of labels\.txt, 'emotion', is a header, delete it", False),
        (write_header_of_many_columns, r"got 7 .* l\.csv, 'a, x', was taken for a header: if it is none, write", False),
        (write_one_line_less, r"got 7 .*\. Find the missing or additional line of labels\.txt\.", False),
        (write_half, r"If the first 4 rows of --embeddings a are those of --embeddings b, pass FILE:4 there", True),
    ],
)
def test_other_numbers_of_rows_are_refused_with_harmless_advice(write, message, first_rows):
    options = {"embeddings": ("a=a.npy",), "labels": "labels.txt"} | write()
    with pytest.raises(ValueError, match=message) as refused:
        import_embeddings(ImportConfig(out="./o.h5", **options))
    assert ("pass FILE:" in str(refused.value)) == first_rows


def test_a_csv_of_labels_without_header_keeps_its_first_line():
    Path("labels.csv").write_text("\n".join(LABELS) + "\n")
    assert list(run(labels="labels.csv").table["label"]) == LABELS
    Path("labels.csv").write_text("emotion\n" + "\n".join(LABELS) + "\n")
    assert list(run(labels="labels.csv").table["label"]) == LABELS
    Path("labels.csv").write_text("a\n\n" + "\n".join(LABELS[2:]) + "\n")
    assert list(run(labels="labels.csv").table["label"]) == ["a", "", *LABELS[2:]]
