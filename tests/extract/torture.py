"""Kill extractions with SIGKILL at random moments and check what they leave: `python tests/extract/torture.py 100`.

Each round forks a process that extracts twice into one cache: first one embedding, then another one with other labels.
So kills hit the creation of the cache, its batches, the new embedding, the refreshed labels, and both ends. After each
kill the file must open. Whenever an extraction finishes, the cache must equal an uninterrupted one.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from amr.extract import run
from amr.extract.cache.reader import Cache
from amr.extract.cache.verify import verify
from amr.extract.config import ExtractConfig
from amr.extract.encoders import Encoder, Prepare, registry

NUM_CLIPS = 40


class Spectrum(Prepare):
    sample_rate_hz = 8000

    def __call__(self, media: np.ndarray) -> torch.Tensor:
        return torch.fft.rfft(torch.from_numpy(media)[:256]).abs()


class Slow(Encoder):
    """Slow fake encoder, so that kills hit it while it works."""

    modality, embed_dim, max_steps = "audio", 129, None
    preprocessing: dict[str, object] = {}  # noqa: RUF012
    prepare = Spectrum()

    def __init__(self, spec: str) -> None:
        self.spec = spec

    def embed(self, inputs):
        time.sleep(0.002)
        return [each * len(self.spec) for each in inputs]


def write_clips(folder: Path) -> list[ExtractConfig]:
    """Write small sounds, one of them broken. Returns the configs of the two extractions of a round."""
    rng = np.random.default_rng(0)
    for i in range(NUM_CLIPS):
        with wave.open(str(folder / f"{i}.wav"), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(rng.integers(-9999, 9999, 800).astype("<i2").tobytes())
    (folder / "7.wav").write_bytes(b"broken")
    configs = []
    for stage, encoder in ((0, ("a=first",)), (1, ("a=first", "b=second"))):
        rows = [f"{i}.wav,{(i + stage) % 3}" for i in range(NUM_CLIPS)]
        (folder / f"{stage}.csv").write_text("\n".join(["path,label", *rows]))
        configs.append(
            ExtractConfig(
                manifest=str(folder / f"{stage}.csv"),
                encoder=encoder,
                out=str(folder / "cache.h5"),
                batch_size=3,
                workers=0,
                device="cpu",
            )
        )
    return configs


def extract_all(configs: list[ExtractConfig]) -> None:
    """Run both extractions."""
    for config in configs:
        run.extract_embeddings(config)


def content(path: Path) -> dict[str, object]:
    """Content of the cache that must not depend on kills."""
    with Cache.open(path) as cache:
        return {
            "clips": cache.table().to_numpy().tolist(),
            "failures": cache.failures.to_numpy().tolist(),
            "complete": cache.complete,
        } | {name: (cache.embedding(name).tobytes(), cache.present(name).tobytes()) for name in cache.names}


def torture(num_kills: int, seed: int, folder: Path) -> tuple[int, int]:
    """Kill `num_kills` times. Returns how many extractions finished, and how many kills left a cache."""
    registry.build_encoder = lambda spec, name: Slow(spec)
    configs = write_clips(folder)
    whole = folder / "whole.h5"
    began = time.monotonic()
    extract_all([replace(config, out=str(whole)) for config in configs])
    full_seconds = time.monotonic() - began
    expected, cache = content(whole), folder / "cache.h5"
    rng = random.Random(seed)
    num_finished = num_left = num_killed = 0
    while num_killed < num_kills:
        if _killed(configs, rng.uniform(0, 0.7 * full_seconds), workers=rng.random() < 0.1):
            num_killed += 1
            if cache.exists():
                num_left += 1
                assert verify(cache)["problems"] == [], verify(cache)["problems"]
                content(cache)
        else:
            num_finished += 1
            assert content(cache) == expected
            leftovers = {path.name for path in folder.glob("cache.h5*")}
            assert leftovers == {"cache.h5"}, leftovers
            cache.unlink()
    extract_all(configs)
    assert content(cache) == expected
    return num_finished, num_left


def _killed(configs: list[ExtractConfig], seconds: float, *, workers: bool) -> bool:
    """Extract in a new process and kill it after `seconds`. Returns False if it finished before that."""
    child = os.fork()
    if child == 0:
        try:
            extract_all([replace(config, workers=int(workers)) for config in configs])
            os._exit(0)
        except BaseException as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            os._exit(1)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) != 0:
        raise AssertionError("a resumed extraction failed")
    return os.WIFSIGNALED(status)


if __name__ == "__main__":
    torch.set_num_threads(1)
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with tempfile.TemporaryDirectory() as name:
        finished, left = torture(kills, seed=int(sys.argv[2]) if len(sys.argv) > 2 else 0, folder=Path(name))
    sys.stdout.write(
        f"{kills} kills, {left} left a cache, all readable; {finished + 1} finished, all as uninterrupted\n"
    )
