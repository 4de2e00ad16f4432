"""Sound and frames for pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.image import imsave

from amr.extract.pipeline.load import ClipFiles
from amr.extract.pipeline.preview import decode_media


def test_a_folder_of_images_has_frames(tmp_path: Path):
    for i in range(4):
        imsave(tmp_path / f"{i}.png", np.full((6, 8, 3), 60 * i, np.uint8))
    media = decode_media(ClipFiles({"audio": None, "video": tmp_path}), 2)
    assert media.frames.shape == (2, 6, 8, 3)
    assert media.frames[0].mean() < media.frames[1].mean()
    assert media.notes == ()
    gone = decode_media(ClipFiles({"audio": None, "video": tmp_path / "gone"}), 2)
    assert gone.notes == (f"video file not found: {tmp_path / 'gone'}",)
