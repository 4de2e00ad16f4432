"""Manifests of datasets: their clips, splits and media files."""

from amr.common.moved import moved_modules

moved_modules({"amr.data_manifests.report": ("amr.data_manifests.coverage",)})
