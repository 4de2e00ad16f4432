import subprocess
import sys

import pytest

from amr.data_manifests.datasets import build_manifest, datasets


def test_every_dataset_is_complete():
    assert {"crema-d", "vggsound", "synthetic"} <= set(datasets)
    for name, dataset in datasets.items():
        assert dataset.name == name
        assert dataset.licence
        assert dataset.summary
        assert "weightless" in dataset.presets
        for preset in dataset.presets.values():
            assert set(preset) == set(dataset.modalities)


def test_an_unknown_dataset_suggests_the_closest():
    with pytest.raises(ValueError, match=r"got 'cremad'. Did you mean crema-d\?"):
        build_manifest("cremad")


def test_media_are_looked_for_in_the_workspace(workspace):
    with pytest.raises(FileNotFoundError, match=f"{workspace}/data/crema-d"):
        build_manifest("crema-d")
    (workspace / "data" / "crema-d").mkdir(parents=True)
    manifest, report = build_manifest("crema-d")
    assert report.found == {"audio": 0, "video": 0}
    assert len(manifest) == report.clips == 7442


def test_manifests_do_not_import_torch():
    code = "import sys, amr.data_manifests.datasets; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
