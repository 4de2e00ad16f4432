import subprocess
import sys

import pytest
import timm

from amr.data_manifests.datasets import PRESETS, build_manifest, datasets
from amr.data_manifests.manifest import read_manifest, write_manifest
from amr.extract.config import PRESETS as CHOICES
from amr.extract.config import check_dataset
from amr.extract.encoders import Spec, list_encoders


def test_every_dataset_is_complete():
    assert {"crema-d", "vggsound", "kinetics-sounds", "ave", "ucf-101", "synthetic"} <= set(datasets)
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


def test_options_know_every_dataset_without_importing_it():
    names = [name for name, dataset in datasets.items() if dataset.build.__module__.startswith("amr.")]
    for name in names:
        check_dataset(name)
    with pytest.raises(
        ValueError, match=r"--dataset must be one of .*, got 'ucf101'. Did you mean ucf-101\?"
    ) as refusal:
        check_dataset("ucf101")
    assert all(name in str(refusal.value) for name in names)


@pytest.mark.parametrize("name", ["kinetics-sounds", "ave", "ucf-101"])
def test_lists_that_do_not_ship_are_looked_for_in_the_workspace(workspace, name):
    (workspace / "data" / name).mkdir(parents=True)
    lists = rf"--root must hold the official lists \(.*\), or a folder with them, got .*/data/{name}' with none of them"
    with pytest.raises(FileNotFoundError, match=rf"{lists}\. Get them from .*https://"):
        build_manifest(name)


@pytest.mark.parametrize("name", ["crema-d", "kinetics-sounds", "ave", "ucf-101", "vggsound"])
def test_a_root_that_does_not_exist_is_said_to(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=r"--root must be the folder .*no', which does not exist\."):
        build_manifest(name, tmp_path / "no")
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError, match=r"file', which is no folder\."):
        build_manifest(name, tmp_path / "file")


def test_media_are_looked_for_in_the_workspace(workspace):
    with pytest.raises(FileNotFoundError, match=f"{workspace}/data/crema-d"):
        build_manifest("crema-d")
    (workspace / "data" / "crema-d").mkdir(parents=True)
    manifest, report = build_manifest("crema-d")
    assert report.found == {"audio": 0, "video": 0}
    assert len(manifest) == report.clips == 7442


@pytest.mark.parametrize("name", ["crema-d", "vggsound"])
def test_a_root_may_be_text_or_a_path(tmp_path, name):
    manifest, report = datasets[name].build(str(tmp_path))
    assert (
        manifest.sha256()
        == build_manifest(name, tmp_path)[0].sha256()
        == build_manifest(name, str(tmp_path))[0].sha256()
    )
    assert report.root == tmp_path


def test_a_manifest_is_read_and_written_by_text_too(tmp_path):
    (tmp_path / "clips.csv").write_text("path,label\na.wav,x\n")
    manifest = read_manifest(str(tmp_path / "clips.csv"), root=str(tmp_path))
    write_manifest(manifest, str(tmp_path / "again.csv"))
    assert read_manifest(tmp_path / "again.csv").sha256() == manifest.sha256()


def test_manifests_do_not_import_torch():
    code = "import sys, amr.data_manifests.datasets; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_clips_of_any_content_have_one_pretrained_choice():
    assert datasets["synthetic"].presets["pretrained"] == datasets["vggsound"].presets["pretrained"]


def test_every_pretrained_pair_is_one_of_a_task():
    """`--preset pretrained` is the pair of the task that fits the dataset, and the command has every task."""
    assert {"pretrained", *PRESETS} == set(CHOICES)
    for dataset in (dataset for _, dataset in datasets.items()):
        assert dataset.presets["pretrained"] in [PRESETS[task] for task in ("emotion", "sound-events", "actions")]
    assert datasets["crema-d"].presets["pretrained"] == PRESETS["emotion"]
    assert datasets["ucf-101"].presets["pretrained"] == PRESETS["actions"]


def test_no_pretrained_network_has_seen_the_labels_of_its_clips():
    """The network of actions was trained on Kinetics-400, of which Kinetics-Sounds is a part."""
    assert datasets["kinetics-sounds"].presets["pretrained"] == PRESETS["sound-events"]


def test_every_pair_is_of_encoders_that_there_are():
    for encoders in PRESETS.values():
        for modality, text in encoders.items():
            spec = Spec.parse(text)
            if spec.family == "timm":
                assert spec.model in timm.list_pretrained()
            else:
                (info,) = list_encoders(str(Spec(spec.family, spec.model)))
                assert info.modality == modality
