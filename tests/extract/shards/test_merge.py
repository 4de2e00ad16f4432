"""Shards by hand: each is accounted for, and joined they are one extraction to the bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from amr.cli import run
from amr.common.files import space
from amr.common.progress import Progress
from amr.data_manifests.synthetic import SyntheticConfig, render
from amr.extract.cache import arrays
from amr.extract.cache.reader import Cache
from amr.extract.cache.verify import inspect, verify
from amr.extract.config import ExtractConfig, MergeConfig
from amr.extract.run import extract_embeddings
from amr.extract.shards.merge import merge_shards
from amr.extract.shards.shard import all_shards
from amr.fusion.config import FitConfig
from amr.fusion.fit import fit

NUM_CLIPS = 14
NETWORK = "timm:test_efficientnet,modality=video,size=32,frames=2,weights=random"  # its last bits may depend on a batch
ENCODERS = ("audio=logmel", "video=frames,grid=4", f"net={NETWORK}")


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """A CSV of 14 clips: one is broken, three have no file."""
    folder = tmp_path_factory.mktemp("clips")
    config = SyntheticConfig(
        num_classes=2, num_clips=NUM_CLIPS, train_share=1 / 2, val_share=1 / 4, duration_seconds=0.2, size=32
    )
    render(config, folder / "media")
    files = sorted((folder / "media/clips").iterdir())
    files[2].write_bytes(b"broken")
    for i in (5, 6, 13):
        files[i].rename(files[i].with_suffix(".away"))
    rows = [f"media/clips/{file.name},{'ab'[i % 2]},{('train', 'test')[i % 3 == 0]}" for i, file in enumerate(files)]
    (folder / "clips.csv").write_text("\n".join(["path,label,split", *rows]) + "\n")
    return folder


@pytest.fixture
def config(clips, workspace) -> ExtractConfig:
    return ExtractConfig(
        manifest=str(clips / "clips.csv"), encoder=ENCODERS, batch_size=4, workers=0, device="cpu", dtype="float16"
    )


def shards(config: ExtractConfig, count: int) -> list[str]:
    """Caches of all shards, extracted."""
    return [str(extract_embeddings(replace(config, shard=str(shard))).cache) for shard in all_shards(count)]


def merged(paths: list[str], out: Path, **options: bool) -> bytes:
    return merge_shards(MergeConfig(tuple(paths), str(out), **options)).cache.read_bytes()


@pytest.fixture(scope="module")
def whole(clips, tmp_path_factory) -> bytes:
    """The file of one extraction of all clips."""
    out = tmp_path_factory.mktemp("whole") / "whole.h5"
    config = ExtractConfig(
        manifest=str(clips / "clips.csv"), encoder=ENCODERS, batch_size=4, workers=0, device="cpu", dtype="float16"
    )
    return extract_embeddings(replace(config, out=str(out))).cache.read_bytes()


@pytest.mark.parametrize("count", [3, 5])
def test_joined_shards_are_the_file_of_one_extraction(config, whole, workspace, count):
    paths = shards(config, count)
    assert merged(paths[::-1], workspace / "all.h5") == whole
    assert verify(workspace / "all.h5")["problems"] == []


@pytest.mark.parametrize("count", [1, NUM_CLIPS, NUM_CLIPS + 3])
def test_few_and_many_shards_are_joined_to_the_bit(config, workspace, count):
    config = replace(config, encoder=ENCODERS[:1])
    one = extract_embeddings(replace(config, out=str(workspace / "one.h5"))).cache.read_bytes()
    assert merged(shards(config, count), workspace / "all.h5") == one


def test_rows_that_fill_many_blocks_are_joined_to_the_bit(config, workspace, monkeypatch):
    config = replace(config, encoder=ENCODERS[:2])
    monkeypatch.setattr(arrays, "CHUNK_BYTES", 300)  # of 64 bands or 16 pixels in 2 bytes: 2 and 9 rows
    monkeypatch.setattr(arrays, "BYTES_AT_ONCE", 900)
    one = extract_embeddings(replace(config, out=str(workspace / "one.h5"))).cache.read_bytes()
    assert merged(shards(config, 4), workspace / "all.h5") == one


def test_a_shard_says_which_part_it_is_and_is_verified(config, workspace):
    (first, _, last) = shards(config, 3)
    assert Path(first) == workspace / "caches/clips.shard-1-of-3.h5"
    assert inspect(Path(last))["shard"] == "3/3"
    assert inspect(Path(last))["manifest_sha256"] == inspect(Path(first))["manifest_sha256"]
    assert [verify(Path(path))["problems"] for path in (first, last)] == [[], []]
    with Cache.open(Path(first)) as one, Cache.open(Path(last)) as other:
        assert (one.num_clips, other.num_clips) == (4, 5)


def test_a_shard_without_any_file_is_finished(config, clips, workspace, monkeypatch):
    result = extract_embeddings(replace(config, shard="6/14"))
    assert (result.present, result.clips, result.failed) == (0, 1, 2)
    away = clips / "media"
    away.rename(clips / "elsewhere")
    try:
        nothing = extract_embeddings(replace(config, shard="1/2", out=str(workspace / "nothing.h5")))
        assert (nothing.present, nothing.failed) == (0, 14)
    finally:
        (clips / "elsewhere").rename(away)


def test_a_shard_without_rows_is_a_valid_cache(config, workspace):
    result = extract_embeddings(replace(config, shard="1/20"))
    assert (result.clips, result.embedded) == (0, {"audio": 0, "video": 0, "net": 0})
    assert verify(result.cache)["problems"] == []
    before = result.cache.read_bytes()
    extract_embeddings(replace(config, shard="1/20", resume=True))
    assert result.cache.read_bytes() == before


class Interrupt(Progress):
    def advance(self, amount: float, failures: int = 0) -> None:
        raise KeyboardInterrupt


def test_an_interrupted_shard_goes_on_to_the_same_bits(config, whole, workspace):
    with pytest.raises(KeyboardInterrupt):
        extract_embeddings(replace(config, shard="2/3"), Interrupt())
    with Cache.open(workspace / "caches/clips.shard-2-of-3.h5") as cache:
        assert not cache.complete
    assert merged(shards(config, 3), workspace / "all.h5") == whole


def test_resume_fills_what_failed_in_a_merged_cache(config, clips, workspace):
    merged(shards(config, 3), workspace / "caches/clips.h5")
    back = [file for file in (clips / "media/clips").iterdir() if file.suffix == ".away"]
    try:
        for file in back:
            file.rename(file.with_suffix(".mp4"))
        resumed = extract_embeddings(replace(config, resume=True))
        one = extract_embeddings(replace(config, out=str(workspace / "one.h5")))
        assert resumed.embedded == one.embedded == dict.fromkeys(("audio", "video", "net"), NUM_CLIPS - 1)
        with Cache.open(resumed.cache) as filled, Cache.open(one.cache) as other:
            for name in filled.names:
                np.testing.assert_array_equal(filled.embedding(name), other.embedding(name))
            assert filled.failures.equals(other.failures)
    finally:
        for file in back:
            file.with_suffix(".mp4").rename(file)


def test_merge_given_again_changes_nothing_and_replaces_only_when_told(config, workspace):
    config = replace(config, encoder=ENCODERS[:1])
    paths, out = shards(config, 2), workspace / "all.h5"
    first = merged(paths, out)
    modified = out.stat().st_mtime_ns
    assert merged(paths, out) == first
    assert out.stat().st_mtime_ns == modified
    other = shards(replace(config, batch_size=3, encoder=ENCODERS[1:2], out=None, overwrite=True), 2)
    with pytest.raises(ValueError, match=r"--out must be a new file, .*Pass --overwrite"):
        merged(other, out)
    assert merged(other, out, overwrite=True) != first


def test_merge_replaces_no_file_of_another_program(config, workspace):
    paths = shards(replace(config, encoder=ENCODERS[:1]), 2)
    (workspace / "mine.h5").write_text("mine")
    with pytest.raises(ValueError, match="--out must be a new file"):
        merged(paths, workspace / "mine.h5")
    with pytest.raises(ValueError, match="--out must be a cache or a new file"):
        merged(paths, workspace / "mine.h5", overwrite=True)
    assert (workspace / "mine.h5").read_text() == "mine"


def test_merge_writes_through_no_link(config, workspace):
    paths = shards(replace(config, encoder=ENCODERS[:1]), 2)
    (workspace / "precious").write_text("precious")
    (workspace / "all.h5.tmp").symlink_to(workspace / "precious")
    merged(paths, workspace / "all.h5")
    assert (workspace / "precious").read_text() == "precious"


def test_merge_is_refused_where_the_disk_has_no_room(config, workspace, monkeypatch):
    paths = shards(replace(config, encoder=ENCODERS[:1]), 2)
    monkeypatch.setattr(space.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 100}))
    with pytest.raises(ValueError, match=r"--out must fit on the disk"):
        merged(paths, workspace / "all.h5")
    assert not (workspace / "all.h5").exists()


def test_shards_that_do_not_belong_together_are_refused_with_what_to_type(config, clips, workspace):
    config = replace(config, encoder=ENCODERS[:1])
    one, two, three = shards(config, 3)
    out = workspace / "all.h5"

    def refused(paths: list[str], words: str) -> None:
        with pytest.raises(ValueError, match=words):
            merged(paths, out)
        assert not out.exists()

    refused([one, three], r"must be all 3 shards, got none for 2/3\. Add it, or make it with amr extract --shard 2/3\.")
    refused([one, two, two, three], r"once per block, got 2/3 in .* and .*\. Leave one of them out\.")
    refused([one, two, shards(config, 2)[1]], r"of one division, got .*2/2 in .*\. Leave one of them out\.")
    one_cache = extract_embeddings(config).cache
    refused([one, two, str(one_cache)], r"must be made by amr extract --shard, got .*\. Leave it out\.")
    with pytest.raises(ValueError, match="--out must be none of the shards"):
        merged([one, two, three], Path(two))

    def another(**changes: object) -> str:
        changed = replace(config, shard="3/3", out=str(workspace / "other.h5"), overwrite=True, **changes)
        return str(extract_embeddings(changed).cache)

    refused([one, two, another(encoder=("audio=logmel,bands=20",))], r"encoders of the others, .* --shard 3/3 again")
    refused([one, two, another(dtype="float32")], r"audio with dtype float32 in .* and float16 in")
    refused([one, two, another(encoder=ENCODERS[:2])], r"embeddings of the others, got audio, video in")
    text = (clips / "clips.csv").read_text().replace(",a,", ",c,")
    (clips / "relabelled.csv").write_text(text)
    refused(
        [one, two, another(manifest=str(clips / "relabelled.csv"))],
        r"must be of one manifest, got .* Run amr extract --shard 3/3 again with the manifest of the others\.",
    )
    Path(three).unlink()
    with pytest.raises(KeyboardInterrupt):
        extract_embeddings(replace(config, shard="3/3"), Interrupt())
    words = r"must be complete, got 3/3 in .* Run amr extract --shard 3/3 again, unless it is still running\."
    refused([one, two, three], words)


def test_a_cache_takes_no_other_shard_and_a_fit_takes_none(config, workspace):
    config = replace(config, encoder=ENCODERS[:1])
    one, _ = shards(config, 2)
    with pytest.raises(ValueError, match=r"must be a cache of shard 2/2, got .*, which is shard 1/2\. Pass another"):
        extract_embeddings(replace(config, shard="2/2", out=one))
    with pytest.raises(ValueError, match=r"must be a cache of no shard, got .*, which is shard 1/2"):
        extract_embeddings(replace(config, out=one))
    with pytest.raises(ValueError, match=r"must hold all clips, got .* shard 1/2 of them\. Join the shards: amr merge"):
        fit(FitConfig(cache=one))


def test_a_damaged_shard_is_seen(config, workspace):
    one, two = shards(replace(config, encoder=ENCODERS[:1]), 2)
    with h5py.File(two) as file:
        offset = file["embeddings/audio"].id.get_chunk_info(0).byte_offset
    content = bytearray(Path(two).read_bytes())
    content[offset + 40] ^= 1
    Path(two).write_bytes(content)
    with pytest.raises(RuntimeError, match="must be intact"):
        merged([one, two], workspace / "all.h5")
    assert not (workspace / "all.h5").exists()


def test_shards_without_any_embedding_are_joined_and_said_to_be_empty(config, clips, workspace, capsys):
    (workspace / "elsewhere").mkdir()
    paths = shards(replace(config, root=str(workspace / "elsewhere")), 2)
    assert run(["merge", *paths, "--out", str(workspace / "all.h5")]) == 1
    assert "at least one clip must be embedded, got none of 14. Run amr inspect" in capsys.readouterr().err
