"""Which clips there are, in which split, and where their media are."""

from amr.common.moved import moved_modules

moved_modules({"amr.data_manifests.report": ("amr.data_manifests.coverage",)})
