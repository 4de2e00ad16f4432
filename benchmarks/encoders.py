"""Clips per second of a training step of the from-scratch preset: both encoders, forward and backward, with AMR.

Clips are random numbers in the shapes of the store, augmented as the preset says; nothing is decoded or read from a
disk. The clock runs over one epoch of the trainer, of a few batches.

    python benchmarks/encoders.py [--dataset crema-d,vggsound] [--batch 16] [--steps 2] [--rounds 1] [--device cpu]
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from rounds import machine, medians

from amr.extract.encoders import build_requested
from amr.extract.encoders.model import ModelEncoder
from amr.fusion.attribution.attributor import Attributor
from amr.fusion.end_to_end.augment import Augment
from amr.fusion.end_to_end.config import TrainConfig
from amr.fusion.end_to_end.media_clips import MediaClips
from amr.fusion.end_to_end.model import EncoderModel
from amr.fusion.methods import methods
from amr.fusion.model import ModelShape
from amr.fusion.train.hooks import EndToEndHooks
from amr.fusion.train.recipe import Member, Recipe
from amr.fusion.train.trainer import train_group

NUM_CLASSES = {"crema-d": 6, "vggsound": 309}
CLIP_SECONDS = {"crema-d": 3.0, "vggsound": 10.0}
REUSE = 16  # positions of a picture at which a weight of a convolution acts, as in training


def stored_shapes(dataset: str, encoders: Mapping[str, ModelEncoder]) -> dict[str, tuple[int, ...]]:
    """Shape of one clip of a dataset as prepared for each encoder, which is what the store keeps."""
    shapes = {}
    for name, encoder in encoders.items():
        prepare = encoder.prepare
        if prepare.sampling is None:
            media = np.zeros(round(CLIP_SECONDS[dataset] * (prepare.sample_rate_hz or 0)), np.float32)
        else:
            media = np.zeros((len(prepare.sampling.times(0.0, CLIP_SECONDS[dataset])), 360, 480, 3), np.uint8)
        shapes[name] = tuple(prepare(media).shape)
    return shapes


def epoch(dataset: str, num_clips: int, batch: int, device: torch.device) -> partial:
    """One epoch of naive training at 1:1, on random clips in the dataset's shapes."""
    config = TrainConfig(dataset=dataset, objective="joint", amr_ratio="1:1")
    encoders = build_requested(config.encoders)
    modalities = {name: encoder.modality for name, encoder in encoders.items()}
    clips = MediaClips(
        {
            name: torch.randn(num_clips, *shape, device=device).half()
            for name, shape in stored_shapes(dataset, encoders).items()
        },
        torch.ones(num_clips, len(encoders), dtype=torch.bool, device=device),
        torch.randint(NUM_CLASSES[dataset], (num_clips,), device=device),
        dict.fromkeys(encoders, torch.arange(num_clips, device=device)),
        Augment(config.augmentation, modalities, 0),
    )
    dims = {name: encoder.embed_dim for name, encoder in encoders.items()}
    shape = ModelShape.of(dims, NUM_CLASSES[dataset], head="concat", hidden=0, adapter="none", adapter_dim=1)
    naive = methods["naive"]
    settings = ("sgd", config.lr, config.weight_decay, "separate", "last")
    recipe = Recipe(shape, naive, naive.Options(), Attributor(), 1, batch, *settings)
    networks = {name: encoder.network() for name, encoder in encoders.items()}
    hooks = EndToEndHooks(lambda shape, seeds: EncoderModel(shape, seeds, networks), reuse=REUSE)
    no_clips = clips.take(torch.zeros(0, dtype=torch.long))
    return partial(train_group, recipe, [Member(0, (0.5, 0.5), 1.0)], clips, no_clips, hooks=hooks)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="crema-d,vggsound")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    num_clips = arguments.batch * arguments.steps
    table = Table("dataset", "batch", "clips/s", "clips/s of CPU time")
    for dataset in arguments.dataset.split(","):
        (time,) = medians(
            {dataset: epoch(dataset, num_clips, arguments.batch, device)}, arguments.rounds, device
        ).values()
        table.add_row(dataset, str(arguments.batch), f"{num_clips / time.wall:.2f}", f"{num_clips / time.cpu:.2f}")
    console = Console(width=110)
    console.print(machine(device))
    console.print(table)


if __name__ == "__main__":
    main()
