"""Commands as typed: what they print, to which stream, with which exit status."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import typer

from amr.cli import app, run
from amr.data_manifests.synthetic import SyntheticConfig, render

COMMANDS = tuple(typer.main.get_command(app).commands)
ODD_ID = "-abc=1"


class Done(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on stdout."""
        assert self.status == 0, self.err
        return json.loads(self.out)


@pytest.fixture
def amr(capfd, home, monkeypatch):
    """Run a command line in the workspace."""
    monkeypatch.chdir(home)

    def call(line: str | list[str]) -> Done:
        capfd.readouterr()
        status = run(line.split() if isinstance(line, str) else line)
        return Done(status, *capfd.readouterr())

    return call


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A workspace with a small synthetic dataset, an imported cache and one run."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AMR_HOME", str(folder))
        patch.chdir(folder)
        render(SyntheticConfig(num_classes=2, num_clips=60, p_audio=0.9), folder / "data/synthetic")
        rng = np.random.default_rng(0)
        target = np.arange(60) % 2
        for name in ("audio", "video"):
            np.save(f"{name}.npy", (target[:, None] + rng.normal(size=(60, 4))).astype(np.float32))
        np.savetxt("labels.txt", target, fmt="%d")
        Path("ids.txt").write_text("".join(f"{i:03d}\n" for i in range(59)) + f"{ODD_ID}\n")
        assert run([*IMPORT.split(), "--out", "caches/small.h5"]) == 0
        assert run(["fit", "--cache", "small", "--epochs", "2", "--device", "cpu", "--out", "runs/small"]) == 0
        Path("text.txt").write_text("no cache, no media\n")
        Path("taken").mkdir()
        Path("taken/notes.txt").write_text("not a run\n")
        Path("clips.csv").write_text("path,label\nnone.mp4,a\n")
        Path("twice.csv").write_text("path,label\na/x.mp4,a\nb/x.mp4,b\n")
        Path("outside.csv").write_text("path,label\n../x.mp4,a\n")
        Path("unlabelled.csv").write_text("path,label\nx.mp4,\n")
        yield folder


IMPORT = (
    "import --embeddings audio=audio.npy --embeddings video=video.npy --labels labels.txt --ids ids.txt "
    "--splits train=40,val=10,test=10"
)


@pytest.mark.parametrize(("ratios", "count"), [("none", "got 1 run that"), ("none,1:1", "got 2 runs that")])
def test_runs_that_diverged_are_counted(amr, ratios, count):
    line = f"sweep --cache small --amr-ratio {ratios} --lr 1e38 --epochs 3 --device cpu --out diverged --overwrite"
    done = amr(line)
    assert done.status == 1
    assert count in done.err.splitlines()[-1]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(amr, command):
    done = amr([command, "--help"])
    assert done.status == 0
    assert "Usage:" in done.out
    assert "--json" in done.out
    assert done.err == ""


def test_the_pipeline_from_media_to_predictions(amr, home):
    report = amr("manifest --dataset synthetic --out clips_found.csv --json").json
    assert report["found"] == {"audio": 60, "video": 60}
    assert (home / "clips_found.csv").read_text().count("\n") == 61

    extracted = amr("extract --dataset synthetic --workers 0 --device cpu --json").json
    assert extracted["cache"] == str(home / "caches/synthetic.h5")
    assert (extracted["clips"], extracted["failed"]) == (60, 0)
    assert extracted["embedded"] == {"audio": 60, "video": 60}
    assert {"seconds", "clips_per_second"} <= set(extracted)

    assert amr("verify synthetic --json").json["ok"] is True
    inside = amr("inspect synthetic --json").json
    assert (inside["clips"], inside["complete"], sorted(inside["embeddings"])) == (60, True, ["audio", "video"])

    fitted = amr("fit --cache synthetic --amr-ratio 1:1 --epochs 15 --device cpu --json").json
    assert Path(fitted["run"]).is_relative_to(home / "runs")
    assert fitted["config"]["amr_ratio"] == "1:1"
    for split in ("val", "test"):
        assert {"accuracy", "map", "f1", "share", "share_logit", "perceptual"} <= set(fitted[split])
        assert sum(fitted[split]["share"].values()) == pytest.approx(1)
    assert fitted["val"]["accuracy"] > 0.7

    clip = "data/synthetic/clips/00007.mp4"
    by_file, by_id = amr(["predict", fitted["run"], clip, "00007", "--device", "cpu", "--json"]).json
    assert by_file["clip"] == clip
    assert by_file["pred"] == by_id["pred"]
    assert by_file["probabilities"] == pytest.approx(by_id["probabilities"], abs=1e-4)
    assert by_file["share"] == pytest.approx(by_id["share"], abs=1e-4)


def test_encoders_are_trained_and_then_extracted(amr, home):
    spec = "timm:test_efficientnet,size=32,weights=random"
    line = f"train-encoders --dataset synthetic --encoder audio={spec} --encoder video={spec},frames=1 --epochs 1"
    line += " --batch-size 20 --workers 0 --device cpu --out encoders/own"
    trained = amr(f"{line} --json")
    assert trained.json["encoders"] == {m: f"trained:encoders/own/{m}" for m in ("audio", "video")}
    assert trained.json["epochs"] == {m: {"epochs": 1, "best": 1} for m in ("audio", "video")}
    assert "audio: epoch 1/1, loss" in trained.err
    text = amr(line)
    assert "is finished" in text.err
    assert "test accuracy" in text.out
    following = text.err.strip().splitlines()[-1].partition("next: amr ")[2]
    assert following.startswith("extract --dataset synthetic --encoder audio=trained:encoders/own/audio")
    embedded = amr(f"{following} --workers 0 --device cpu --out caches/own.h5 --json").json["embedded"]
    assert embedded == {"audio": 60, "video": 60}
    Path("caches/own.h5").unlink()


def test_fit_without_a_ratio_and_with_weight_zero_agree(amr):
    plain, control = (
        amr(f"fit --cache small --epochs 3 --device cpu --json {ratio}").json
        for ratio in ("", "--amr-ratio 1:3 --amr-weight 0")
    )
    assert plain["test"] == control["test"]


def test_a_sweep_prints_one_row_per_run_and_split(amr, home):
    rows = amr(
        "sweep --cache small --amr-ratio none,1:1 --seeds 2 --epochs 2 --device cpu --out runs/sweep --json"
    ).json
    assert len(rows) == 2 * 2 * 2
    assert {"amr_ratio", "seed", "part", "accuracy", "share_audio", "share_logit_audio", "perceptual_audio"} <= set(
        rows[0]
    )
    assert (home / "runs/sweep/results.csv").read_text().count("\n") == 1 + len(rows)


def test_ids_may_begin_with_a_dash(amr):
    (prediction,) = amr(["predict", "runs/small", f"--clip={ODD_ID}", "--json"]).json
    assert prediction["clip"] == ODD_ID
    positional = amr(["predict", "runs/small", "--json", "--", ODD_ID]).json
    assert positional == [prediction]
    explanation = amr(["explain", "runs/small", f"--clip={ODD_ID}", "--out", "odd.png", "--json"]).json
    assert explanation["probabilities"] == pytest.approx(prediction["probabilities"], abs=1e-6)
    assert Path(explanation["picture"]).is_file()


@pytest.mark.parametrize(
    "line",
    [
        "datasets",
        "encoders",
        "encoders logmel",
        "heads",
        "methods",
        "manifest --dataset synthetic",
        "inspect small",
        "verify small",
        "predict runs/small 000",
    ],
)
def test_results_are_text_or_one_json_document_on_stdout(amr, line):
    text = amr(line)
    assert text.status == 0
    assert text.out.strip()
    assert amr(f"{line} --json").json


def test_import_prints_what_it_made(amr):
    made = amr(f"{IMPORT} --out caches/made.h5 --json").json
    assert made["embedded"] == {"audio": 60, "video": 60}
    assert made["splits"] == {"train": 40, "val": 10, "test": 10}
    Path("caches/made.h5").unlink()


WRONG = {
    "": ["bogus", "fti", "--bogus"],
    "datasets": ["extra", "--bogus", "--json=maybe"],
    "encoders": ["one two", "--bogus", "logmel --jsn"],
    "heads": ["extra", "--bogus", "--json=maybe"],
    "methods": ["extra", "--bogus", "--json=maybe"],
    "manifest": ["", "--dataset crema", "--dataset crema-d --root nowhere", "--dataset synthetic --out /proc/x.csv"],
    "extract": [
        "",
        "--dataset synthetic --manifest clips.csv",
        "--dataset crema-d",
        "--manifest nowhere.csv",
        "--manifest twice.csv",
        "--manifest outside.csv",
        "--manifest unlabelled.csv",
        "--manifest clips.csv --label-column emotion",
        "--manifest clips.csv --encoder audio",
        "--manifest clips.csv --encoder audio=logmell",
        "--manifest clips.csv --encoder audio=logmel,bands=many",
        "--manifest clips.csv --dtype float8",
        "--manifest clips.csv --batch-size 0",
        "--manifest clips.csv --batch-size few",
        "--manifest clips.csv --preset best",
        "--manifest clips.csv --resume --overwrite",
    ],
    "train-encoders": [
        "",
        "--dataset synthetic --manifest clips.csv",
        "--dataset synthetic --objective joint --encoder audio=timm:test_vit,weights=random",
        "--dataset synthetic --objective joint --method nope",
        "--dataset synthetic --objective joint --head concta",
        "--dataset synthetic --objective joint --amr-ratio 1:1:1",
        "--dataset synthetic --objective joint --teachers runs",
        "--dataset synthetic --method umt",
        "--dataset synthetic --encoder audio=logmel",
        "--dataset synthetic --encoder audio=timm:resnet81",
        "--dataset synthetic --label emotion",
        "--dataset synthetic --out ./taken",
        "--dataset synthetic --out ./taken --overwrite",
        "--manifest clips.csv --label emotion",
        "--dataset synthetic --lr 0",
        "--dataset synthetic --epochs many",
    ],
    "inspect": ["", "nowhere", "text.txt", "small --bogus"],
    "merge": ["", "nowhere --out x", "small --out x", "small small --out small"],
    "verify": ["", "nowhere", "small --bogus"],
    "import": [
        "",
        "--embeddings audio=audio.npy --out caches/x.h5",
        "--embeddings audio=nowhere.npy --labels labels.txt --out caches/x.h5",
        "--embeddings audio=audio.npy:10 --labels labels.txt --out caches/x.h5",
        "--embeddings audio=audio.npy --labels labels.txt --splits train=1,test=2 --out caches/x.h5",
        "--embeddings audio=audio.npy --labels labels.txt --out caches/small.h5",
        "--embeddings audio=text.txt --labels labels.txt --out caches/x.h5",
    ],
    "fit": [
        "--cache nowhere",
        "--cache small --head concta",
        "--cache small --method nave",
        "--cache small --amr-ratio 1",
        "--cache small --amr-ratio 1:1:1",
        "--cache small --amr-ratio audio=1:text=2",
        "--cache small --amr-ratio 1:nan",
        "--cache small --amr-weight -1",
        "--cache small --amr-weight nan",
        "--cache small --epochs 0",
        "--cache small --lr fast",
        "--cache small --label emotion",
        "--cache small --modalities audio,text",
        "--cache small --split-policy actor",
        "--cache small --attribution-output probabilty",
        "--cache small --method unimodal",
        "--cache small --method unimodal --modalities audio --amr-ratio 1:1",
        "--cache small --method-option p=.5",
        "--cache small --folds 2",
        "--cache small --out ./taken",
        "--cache text.txt",
    ],
    "sweep": [
        "--cache small --amr-ratio 1:1,1",
        "--cache small --amr-weight 1,heavy",
        "--cache small --seeds 0",
        "--cache small --seeds 2 --seed 1",
        "--cache small --lr 0.1,0",
        "--cache small --out ./text.txt",
        "--cache small --epochs 2 --device cpu --seed 1 --out runs/small",
    ],
    "table": [
        "--cache nowhere",
        "--cache small --seeds 0",
        "--cache small --adapter lin",
        "--cache small --amr-ratio 1",
    ],
    "frontier": [
        "--cache nowhere",
        "--cache small --seeds 0",
        "--cache small --amr-ratio 1:1",
        "--cache small --max-cost 2",
        "--cache small --use 1:x",
        "--cache small --use 1:1:1",
        "--cache small --against shaply",
        "--cache small --method ume",
        "--cache small --modalities audio",
    ],
    "predict": ["", "runs/small", "nowhere 000", "taken 000", "runs/small 000 --out a.txt", "--bogus"],
    "explain": [
        "",
        "runs/small",
        "nowhere 000",
        "runs/small nosuchid",
        "runs/small 000 --clip=000",
        "runs/small 000 --out a.jpg",
        "runs/small ids.csv",
        "runs/small nowhere.mp4",
        "runs/small -abc",
    ],
    "evaluate": [
        "",
        "nowhere",
        "taken",
        "runs/small --against aliens",
        "runs/small --against people",
        "runs/small --people voice=audio",
        "runs/small --bootstrap -1",
        "runs/small --bootstrap 19",
        "runs/small --out ./text.txt",
        "runs/small --noise-draws 0",
    ],
    "report": [
        "",
        "nowhere",
        "taken",
        "runs/small --out report.pdf",
        "runs/small --clips -1",
        "runs/small runs/nosuch",
    ],
    "runs": ["nowhere", "--sort accurcy", "--where method", "--where metod=x", "--format cvs", "--json --format csv"],
    "demo": ["extra", "--seed one", "--bogus"],
    "attributions": ["extra", "--bogus", "--json 3"],
    "measures": ["extra", "--bogus", "--json 3"],
}


@pytest.mark.parametrize(("command", "arguments"), [(c, a) for c, wrong in WRONG.items() for a in wrong])
def test_a_wrong_request_gets_two_lines_at_most_and_exit_2(amr, home, command, arguments):
    before = sorted(path for path in home.rglob("*") if path.suffix != ".lock")
    done = amr(f"{command} {arguments}")
    assert done.status == 2, done.err
    assert done.out == ""
    assert 1 <= len(done.err.strip().splitlines()) <= 2, done.err
    assert done.err.startswith("amr: ")
    assert "Traceback" not in done.err
    assert sorted(path for path in home.rglob("*") if path.suffix != ".lock") == before


def test_every_command_is_tried_with_three_wrong_requests():
    assert set(WRONG) == {"", *COMMANDS}
    assert all(len(wrong) >= 3 for wrong in WRONG.values())


@pytest.mark.parametrize(
    ("line", "suggestion"),
    [
        ("fti", "fit"),
        ("manifest --dataset crema", "crema-d"),
        ("fit --cache small --head concta", "concat"),
        ("fit --cache small --method nave", "naive"),
        ("fit --cache small --attribution-output probabilty", "probability"),
        ("extract --manifest clips.csv --encoder audio=logmell", "logmel"),
        ("train-encoders --dataset synthetic --objective joint --method nave", "naive"),
    ],
)
def test_a_nearly_right_name_suggests_the_right_one(amr, line, suggestion):
    assert f"Did you mean {suggestion}?" in amr(line).err.replace("'", "")


def test_a_damaged_cache_is_exit_1(amr, home):
    damaged = home / "damaged.h5"
    data = bytearray((home / "caches/small.h5").read_bytes())
    at = data.find(np.load(home / "audio.npy").tobytes())
    assert at > 0
    data[at + 8] ^= 1
    damaged.write_bytes(data)
    done = amr("verify damaged.h5 --json")
    assert done.status == 1
    assert json.loads(done.out)["problems"]
    assert "extract or import the cache again with --overwrite" in done.err
    damaged.write_text("no cache")
    assert "pass a cache" in amr("verify damaged.h5").err
    damaged.unlink()


def test_an_extraction_that_embeds_nothing_is_exit_1(amr):
    Path("broken").mkdir(exist_ok=True)
    Path("broken/x.mp4").write_text("no media\n")
    Path("broken/clips.csv").write_text("path,label\nx.mp4,a\n")
    done = amr("extract --manifest broken/clips.csv --workers 0 --device cpu --json")
    assert done.status == 1
    assert json.loads(done.out)["failed"] == 2
    assert "Traceback" not in done.err


def test_the_installed_program_keeps_stdout_for_results(home):
    program = Path(sys.executable).with_name("amr")
    if not program.exists():
        pytest.skip(f"no {program}: the package is not installed with this Python")
    line = [program, "fit", "--cache", home / "caches/small.h5", "--epochs", "2", "--out", home / "runs/sub", "--json"]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["run"] == str(home / "runs/sub")
    wrong = subprocess.run([*line, "--bogus"], capture_output=True, text=True, check=False)
    assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (2, "", 1)
