"""From the official lists and rendered clips to a cache, with a clip missing and, in UCF-101, one without sound."""

from fractions import Fraction

import av
import numpy as np
import pandas as pd
import pytest

from amr.data_manifests.datasets import build_manifest
from amr.data_manifests.synthetic_media import write_clip
from amr.extract.cache.reader import Cache
from amr.extract.config import ExtractConfig
from amr.extract.run import extract_embeddings
from amr.fusion.data.splits import split_rows

FRAMES = np.random.default_rng(0).integers(0, 255, (5, 32, 32, 3), np.uint8)
SOUND = np.sin(np.arange(16000) / 5).astype(np.float32)

KINETICS = "label,youtube_id,time_start,time_end,split,is_cc\n"
LISTS = {
    "kinetics-sounds": {
        "annotations/train.csv": KINETICS + "bowling,-AAAAAAAAA1,10,20,train,0\nsinging,-AAAAAAAAA2,0,10,train,0\n",
        "annotations/val.csv": KINETICS + "bowling,-AAAAAAAAA3,5,15,val,0\n",
        "annotations/test.csv": KINETICS + "bowling,-AAAAAAAAA4,5,15,test,0\n",
    },
    "ave": {
        "trainSet.txt": "Baby cry, infant cry&-AAAAAAAAA1&good&0&10\nBark&-AAAAAAAAA2&good&0&0\n",
        "valSet.txt": "Bark&-AAAAAAAAA3&good&2&9\n",
        "testSet.txt": "Bark&-AAAAAAAAA4&good&2&9\n",
    },
    "ucf-101": {
        "ucfTrainTestlist/classInd.txt": "1 Archery\r\n2 YoYo\r\n",
        "ucfTrainTestlist/trainlist01.txt": "Archery/v_Archery_g08_c01.avi 1\r\nYoYo/v_YoYo_g09_c01.avi 2\r\n"
        "Archery/v_Archery_g24_c01.avi 1\r\n",
        "ucfTrainTestlist/testlist01.txt": "Archery/v_Archery_g01_c01.avi\r\n",
    },
}
# The second train clip is missing, or without sound.
MEDIA = {
    "kinetics-sounds": [
        "train/-AAAAAAAAA1_000010_000020",
        "val/-AAAAAAAAA3_000005_000015",
        "test/-AAAAAAAAA4_000005_000015",
    ],
    "ave": ["AVE/-AAAAAAAAA1", "AVE/-AAAAAAAAA3", "AVE/-AAAAAAAAA4"],
    "ucf-101": [
        f"UCF-101/{name[2:-8]}/{name}" for name in ("v_Archery_g08_c01", "v_Archery_g24_c01", "v_Archery_g01_c01")
    ],
}
LABELS = {
    "kinetics-sounds": {"bowling": 3, "singing": 1},
    "ave": {"Baby cry, infant cry": 1, "Bark": 3},
    "ucf-101": {"Archery": 3, "YoYo": 1},
}


def write_silent_avi(path):
    """A clip as those of UCF50's classes: XviD's codec, no sound."""
    with path.open("wb") as file, av.open(file, "w", format="avi") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.height, stream.width, stream.time_base = 32, 32, Fraction(1, 5)
        for picture in FRAMES:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


@pytest.mark.parametrize("name", list(LISTS))
def test_from_lists_and_clips_to_a_cache(workspace, name):
    root = workspace / "data" / name
    for file, text in LISTS[name].items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(text.encode())
    for stem in MEDIA[name]:
        path = root / f"{stem}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_clip(path, frames=FRAMES, frame_rate_hz=5, waveform=SOUND, sample_rate_hz=16000)
    if name == "ucf-101":
        (root / "UCF-101" / "YoYo").mkdir()
        write_silent_avi(root / "UCF-101" / "YoYo" / "v_YoYo_g09_c01.avi")
    config = ExtractConfig(dataset=name, encoder=("audio=logmel", "video=frames"), workers=0)
    result = extract_embeddings(config)
    has_silent = name == "ucf-101"
    assert (result.clips, result.failed) == (4, 0)
    assert result.embedded == {"audio": 3, "video": 3 + has_silent}
    manifest, _ = build_manifest(name)
    with Cache.open(workspace / "caches" / f"{name}.h5") as cache:
        clips = cache.table()
        present = pd.DataFrame({each: cache.present(each) for each in ("audio", "video")}, clips["id"])
    assert clips["label"].value_counts().to_dict() == LABELS[name]
    assert clips["id"].tolist() == manifest.ids
    lacking = present[~present["audio"]]
    assert len(lacking) == 1
    assert lacking["video"].tolist() == [has_silent]
    target = clips["label"].astype("category").cat.codes.to_numpy()
    (splits,) = split_rows(clips, target, present.any(axis=1).to_numpy())
    assert (len(splits.train), len(splits.val), len(splits.test)) == (1 + has_silent, 1, 1)
    assert splits.notes == ()
