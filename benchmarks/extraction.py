"""Extraction end to end against its stages, only decoding and only encoding, timed together.

If both stages share the cores, the rate is bounded by 1 / (1/decode + 1/encode). If the encoders are on a GPU, it is
bounded by the slower stage. The target is 0.9 of that bound. Clips: the GRID clips in $AMR_TEST_DATA (by default
../shared/data), real video of 3 seconds; if there are none, rendered clips.

    python benchmarks/extraction.py [--clips 64] [--rounds 3] [--device cpu]

`--decode-only` compares the CPU time of decoding alone, in one process and one thread: what `amr` needs for 8 frames
and mono sound at 16 kHz, against PyAV's plain decoding of every frame and sound of the same file, and against what else
gives these frames and this sound, where it can be imported. `amr` also reduces the frames, as the weightless encoder
does. Clips of four kinds of files are looked for in $AMR_TEST_DATA.

    python benchmarks/extraction.py --decode-only [--clips 12] [--rounds 5]
"""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import pandas as pd
import torch
from rich.console import Console
from rich.table import Table
from rounds import machine, medians

from amr.common.options import available_cores
from amr.data_manifests.synthetic import SyntheticConfig, render
from amr.extract.config import ExtractConfig
from amr.extract.encoders import Encoder, build_encoder
from amr.extract.media.decode import decode
from amr.extract.media.sampling import Reduction
from amr.extract.pipeline.encode import describe, encode
from amr.extract.pipeline.load import ClipFiles, Loaded
from amr.extract.pipeline.workers import ClipLoader, Task
from amr.extract.run import extract_embeddings

PAIRS = {
    "weightless": {"audio": "logmel", "video": "frames"},
    "resnet18": {"audio": "logmel", "video": "timm:resnet18,weights=random"},
}
BATCH = 32
DATA = Path(os.environ.get("AMR_TEST_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")

KINDS = {
    "GRID mp4": "grid/clips/*.mp4",
    "GRID mpg": "grid/originals/*.mpg",
    "CREMA-D flv": "cremad/VideoFlash/*.flv",
    "VGGSound mp4": "vggsound/video/*.mp4",
}
NUM_FRAMES, RATE_HZ = 8, 16000


def find_clips(num_clips: int, folder: Path) -> tuple[str, list[Path]]:
    """Description of the clips, and their files."""
    real = sorted(DATA.glob(KINDS["GRID mp4"]))[:num_clips]
    if real:
        return "GRID clips", real
    clips = SyntheticConfig(
        num_classes=2,
        num_clips=max(num_clips, 12),  # the renderer wants a clip of every class in every split
        duration_seconds=3.0,
        frame_rate_hz=25,
        size=256,
    )
    render(clips, folder / "rendered")
    rendered = sorted((folder / "rendered").rglob("*.mp4"))[:num_clips]
    return f"rendered clips (no GRID clips in {DATA})", rendered


def load_all(paths: list[Path], encoders: dict[str, Encoder], on_gpu: bool) -> list[Loaded]:
    """Decode and prepare every clip, with as many processes as an extraction has."""
    clips = [ClipFiles(dict.fromkeys(("audio", "video"), path)) for path in paths]
    loader = ClipLoader(clips, encoders, num_workers=available_cores(), batch_size=BATCH, pin_memory=on_gpu)
    return list(loader.load([Task(row, tuple(encoders)) for row in range(len(clips))]))


def encode_all(loaded: list[Loaded], encoders: dict[str, Encoder]) -> None:
    """Run every encoder over every clip, in batches."""
    for name, encoder in encoders.items():
        info = describe(name, encoder, "float32")
        for start in range(0, len(loaded), BATCH):
            batch = loaded[start : start + BATCH]
            encode(encoder, info, batch, start, [str(start + i) for i in range(len(batch))])


def stages(paths: list[Path], specs: dict[str, str], folder: Path, device: torch.device) -> dict[str, Callable]:
    """Name to function: only decoding, only encoding, and `amr extract`."""
    encoders = {name: build_encoder(spec, name).to(device) for name, spec in specs.items()}
    on_gpu = device.type == "cuda"
    manifest = folder / "clips.csv"
    ids = [f"{i:04d}" for i in range(len(paths))]
    pd.DataFrame({"id": ids, "path": [path.name for path in paths], "label": "none"}).to_csv(manifest, index=False)
    config = ExtractConfig(
        manifest=str(manifest),
        root=str(paths[0].parent),
        encoder=tuple(f"{name}={spec}" for name, spec in specs.items()),
        out=str(folder / "cache.h5"),
        batch_size=BATCH,
        overwrite=True,
        device=device.type,
    )
    loaded = load_all(paths, encoders, on_gpu)
    return {
        "decode": partial(load_all, paths, encoders, on_gpu),
        "encode": partial(encode_all, loaded, encoders),
        "extract": partial(extract_embeddings, config),
    }


def decode_all(path: Path) -> None:
    """Decode every frame of the pictures and the sound with PyAV, and do nothing else."""
    with av.open(str(path)) as container:
        streams = [*container.streams.video[:1], *container.streams.audio[:1]]
        for stream in streams:
            stream.thread_count = 1
        for packet in container.demux(streams):
            packet.decode()


def decode_with_amr() -> Callable[[Path], object]:
    """What an extraction with weightless encoders decodes."""
    prepare = build_encoder(f"frames,frames={NUM_FRAMES}", "video").prepare
    request = Reduction(prepare.sampling, prepare.begin)

    def work(path: Path) -> None:
        decoded = decode(path, samplings=[request], sample_rates_hz=[RATE_HZ])
        if decoded.failures or decoded.frame_errors:
            raise RuntimeError(
                f"{path} must be decoded, got {decoded.failures or decoded.frame_errors}. Check the file."
            )

    return work


def decode_with_torchcodec() -> Callable[[Path], object]:
    """torchcodec, which finds the frames by their times, as `amr` does."""
    decoders = import_module("torchcodec.decoders")

    def work(path: Path) -> None:
        video = decoders.VideoDecoder(str(path), num_ffmpeg_threads=1)
        begin, end = video.metadata.begin_stream_seconds, video.metadata.end_stream_seconds
        video.get_frames_played_at([begin + (end - begin) * (i + 0.5) / NUM_FRAMES for i in range(NUM_FRAMES)])
        decoders.AudioDecoder(str(path), sample_rate=RATE_HZ, num_channels=1).get_all_samples()

    return work


def decode_with_opencv() -> Callable[[Path], object]:
    """OpenCV, which counts frames, and librosa for the sound, which calls FFmpeg's program."""
    os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = "threads;1"
    cv2, librosa = import_module("cv2"), import_module("librosa")
    cv2.setNumThreads(1)

    def work(path: Path) -> None:
        capture = cv2.VideoCapture(str(path))
        selected = set(centers(int(capture.get(cv2.CAP_PROP_FRAME_COUNT))))
        number = 0
        while capture.grab():
            if number in selected:
                cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB)
            number += 1
        librosa.load(str(path), sr=RATE_HZ, mono=True)

    return work


def decode_with_decord() -> Callable[[Path], object]:
    """decord, which counts frames."""
    decord = import_module("decord")

    def work(path: Path) -> None:
        reader = decord.VideoReader(str(path), num_threads=1)
        reader.get_batch(centers(len(reader))).asnumpy()
        decord.AudioReader(str(path), sample_rate=RATE_HZ, mono=True)[:].asnumpy()

    return work


def centers(num_frames: int) -> list[int]:
    """Frames at the centers of equal parts of a clip."""
    return [int(num_frames * (i + 0.5) / NUM_FRAMES) for i in range(NUM_FRAMES)]


OTHERS = {
    "torchcodec": decode_with_torchcodec,
    "OpenCV + librosa": decode_with_opencv,
    "decord": decode_with_decord,
}


def each(work: Callable[[Path], object], paths: Sequence[Path]) -> None:
    """Decode every file."""
    for path in paths:
        work(path)


def compare_decoders(console: Console, num_clips: int, rounds: int) -> None:
    """Print the CPU time per clip of PyAV and of `amr`, and the ratio of every other to PyAV."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # librosa's, that it calls FFmpeg
    others: dict[str, Callable[[Path], object]] = {}
    for name, make in OTHERS.items():
        try:
            others[name] = make()
        except Exception as error:  # it is not there, or does not load
            console.print(f"no {name}: {str(error).splitlines()[0]}")
    table = Table("clips", "PyAV, ms", "amr, ms", "amr / PyAV", *(f"{name} / PyAV" for name in others))
    for kind, pattern in KINDS.items():
        paths = sorted(DATA.glob(pattern))[:num_clips]
        if not paths:
            console.print(f"no {kind}: nothing is at {DATA / pattern}")
            continue
        cases = {"PyAV": decode_all, "amr": decode_with_amr()} | others
        failed = [name for name, work in cases.items() if not succeeds(work, paths)]
        times = medians({n: partial(each, work, paths) for n, work in cases.items() if n not in failed}, rounds)
        plain = times["PyAV"].cpu
        ratios = [f"{times[name].cpu / plain:.2f}" if name in times else "fails" for name in ("amr", *others)]
        milliseconds = (f"{1000 * times[name].cpu / len(paths):.1f}" for name in ("PyAV", "amr"))
        table.add_row(f"{len(paths)} {kind}", *milliseconds, *ratios)
    console.print(table)


def succeeds(work: Callable[[Path], object], paths: Sequence[Path]) -> bool:
    """Whether a decoder reads all of the files."""
    try:
        each(work, paths)
    except Exception:
        return False
    return True


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decode-only", action="store_true")
    parser.add_argument("--clips", type=int, help="64, or 12 of each kind with --decode-only")
    parser.add_argument("--rounds", type=int, help="3, or 5 with --decode-only")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    console = Console(width=110)
    if arguments.decode_only:
        compare_decoders(console, arguments.clips or 12, arguments.rounds or 5)
        console.print(machine())
        return
    device = torch.device(arguments.device)
    table = Table("encoders", "decode, clips/s", "encode", "extract", "bound", "extract / bound")
    with TemporaryDirectory() as name:
        folder = Path(name)
        description, paths = find_clips(arguments.clips or 64, folder)
        for pair, specs in PAIRS.items():
            times = medians(stages(paths, specs, folder, device), arguments.rounds or 3, device)
            decoding, encoding, whole = (len(paths) / t.wall for t in times.values())
            bound = min(decoding, encoding) if device.type == "cuda" else 1 / (1 / decoding + 1 / encoding)
            rates = (f"{rate:.1f}" for rate in (decoding, encoding, whole, bound))
            table.add_row(pair, *rates, f"{whole / bound:.2f}")
    console.print(f"{len(paths)} {description}; {machine(device)}")
    console.print(table)


if __name__ == "__main__":
    main()
