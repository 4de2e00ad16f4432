"""The measures of `amr evaluate`: one file per measure. Add one as a file that registers a `Measure`, imported here.

The files imported below are measures; `base` is their base class.
"""

# ruff: noqa: I001  (the order of the table that `amr measures` prints)

from amr.fusion.evaluate.measures import accuracy
from amr.fusion.evaluate.measures import missing
from amr.fusion.evaluate.measures import confusion
from amr.fusion.evaluate.measures import interaction
from amr.fusion.evaluate.measures import emap
from amr.fusion.evaluate.measures import conflict
from amr.fusion.evaluate.measures import calibration
from amr.fusion.evaluate.measures import noise
from amr.fusion.evaluate.references import gain
from amr.fusion.evaluate.references import information
from amr.fusion.evaluate.references import probe
from amr.fusion.evaluate.references import ogr
from amr.fusion.evaluate.measures.base import Measure, measures, measures_for

__all__ = [
    "Measure",
    "accuracy",
    "calibration",
    "conflict",
    "confusion",
    "emap",
    "gain",
    "information",
    "interaction",
    "measures",
    "measures_for",
    "missing",
    "noise",
    "ogr",
    "probe",
]
