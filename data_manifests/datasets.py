"""All datasets known by name. Add one as a file that registers a `Dataset`, imported here."""

# ruff: noqa: I001  (the order of the table that `amr datasets` prints)

from __future__ import annotations

import os
from pathlib import Path

from amr.common.workspace import media_dir
from amr.data_manifests import crema_d
from amr.data_manifests import vggsound
from amr.data_manifests.user_lists import kinetics_sounds
from amr.data_manifests.user_lists import ave
from amr.data_manifests.user_lists import ucf_101
from amr.data_manifests import synthetic
from amr.data_manifests.coverage import ManifestReport
from amr.data_manifests.dataset import PRESETS, WEIGHTLESS, Dataset, datasets
from amr.data_manifests.manifest import Manifest

__all__ = [
    "PRESETS",
    "WEIGHTLESS",
    "Dataset",
    "ManifestReport",
    "ave",
    "build_manifest",
    "crema_d",
    "datasets",
    "kinetics_sounds",
    "synthetic",
    "ucf_101",
    "vggsound",
]


def build_manifest(name: str, root: str | os.PathLike[str] | None = None) -> tuple[Manifest, ManifestReport]:
    """Make the manifest of a dataset, with the media that exist.

    It holds every clip of the dataset's list, with or without media: splits never depend on the disk.

    Args:
        name: Name in `datasets`.
        root: Folder of its media; by default data/<name> in the workspace.

    Raises:
        ValueError: The dataset is unknown.
        FileNotFoundError: The folder does not exist, and the dataset cannot be rendered.
    """
    return datasets[name].build(media_dir(name) if root is None else Path(root))
