"""The datasets that are known by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from amr.common.registry import Registry
from amr.common.workspace import media_dir
from amr.data_manifests import crema_d, synthetic, vggsound
from amr.data_manifests.coverage import ManifestReport
from amr.data_manifests.manifest import Manifest

__all__ = ["Dataset", "ManifestReport", "build_manifest", "datasets"]

WEIGHTLESS = {"audio": "logmel", "video": "frames"}


@dataclass(frozen=True)
class Dataset:
    """A dataset known by name.

    Args:
        name: as in --dataset.
        summary: one line.
        licence: of its media and lists.
        homepage: where its media come from; "" for those made here.
        modalities: what its clips have, alphabetical.
        build: root -> its manifest and what was found there.
        presets: name of a preset -> {name of the embedding: encoder SPEC}.
    """

    name: str
    summary: str
    licence: str
    homepage: str
    modalities: tuple[str, ...]
    build: Callable[[Path], tuple[Manifest, ManifestReport]]
    presets: dict[str, dict[str, str]]


datasets: Registry[Dataset] = Registry("dataset")


def build_manifest(name: str, root: Path | None = None) -> tuple[Manifest, ManifestReport]:
    """The manifest of a dataset, with the media that are there.

    Every clip of the dataset's list is in it, whether its media are there or not: splits never depend on the disk.

    Args:
        name: a name in `datasets`.
        root: the folder of its media; by default data/<name> in the workspace.

    Raises:
        ValueError: there is no such dataset.
        FileNotFoundError: there is no such folder, and the dataset cannot be rendered.
    """
    return datasets[name].build(media_dir(name) if root is None else root)


def _add(dataset: Dataset) -> None:
    datasets.register(dataset.name)(dataset)


_add(
    Dataset(
        name="crema-d",
        summary="7,442 clips of 91 actors, six emotions, with people's votes on voice, face and both",
        licence="ODbL 1.0 / DbCL 1.0",
        homepage=crema_d.HOMEPAGE,
        modalities=("audio", "video"),
        build=crema_d.build,
        presets={
            "weightless": WEIGHTLESS,
            # speech, and faces
            "pretrained": {
                "audio": "torchaudio:WAVLM_BASE_PLUS",
                "video": "timm:vit_small_patch14_dinov2.lvd142m",
            },
        },
    )
)
_add(
    Dataset(
        name="vggsound",
        summary="YouTube clips of 10 s, 309 classes of sound sources in the picture; test list with VGGSounder's tags",
        licence="lists CC BY 4.0 and Apache-2.0; media belong to their uploaders",
        homepage=vggsound.HOMEPAGE,
        modalities=("audio", "video"),
        build=vggsound.build,
        presets={
            "weightless": WEIGHTLESS,
            # any sound as a picture, not speech alone; and things with a name
            "pretrained": {
                "audio": "timm:convnext_tiny.in12k_ft_in1k,modality=audio",
                "video": "timm:vit_base_patch16_clip_224.openai",
            },
        },
    )
)
_add(
    Dataset(
        name="synthetic",
        summary="clips rendered on the spot: shapes and tones with a known amount of information in each",
        licence="MIT, as this package",
        homepage="",
        modalities=synthetic.MODALITIES,
        build=synthetic.build,
        presets={
            "weightless": WEIGHTLESS,
            "pretrained": {
                "audio": "timm:convnext_tiny.in12k_ft_in1k,modality=audio",
                "video": "timm:vit_small_patch14_dinov2.lvd142m",
            },
        },
    )
)
