"""The public face: `amr.*`, `python -m amr`, and the import paths of version 0.1."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import amr

ROOT = Path(__file__).resolve().parent.parent
STUB = ast.parse((ROOT / "__init__.pyi").read_text(encoding="utf-8"))
PROMISED = {
    "Audit",
    "AttributionRegularizer",
    "Attributor",
    "Cache",
    "ClusterOptions",
    "EvaluateConfig",
    "ExplainConfig",
    "ExtractConfig",
    "FitConfig",
    "FrontierConfig",
    "FusionClassifier",
    "ImportConfig",
    "LightningAMR",
    "MergeConfig",
    "ReportConfig",
    "SweepConfig",
    "Tap",
    "TrainConfig",
    "TrainSweepConfig",
    "__version__",
    "audit",
    "balance",
    "evaluate",
    "explain",
    "extract_embeddings",
    "fit",
    "frontier",
    "import_embeddings",
    "load_head",
    "merge_shards",
    "open_cache",
    "predict",
    "report",
    "sweep",
    "sweep_trainings",
    "tap",
    "train_encoders",
}
# Paths that the README and CONTRIBUTING of version 0.1 show, with names from each.
OLD_PATHS = {
    "amr.extract.config": ["ExtractConfig"],
    "amr.extract.encoders.base": ["Prepare", "WeightFreeEncoder"],
    "amr.extract.encoders.families": ["EncoderInfo", "Family", "families"],
    "amr.extract.run": ["extract"],
    "amr.fusion.attribution": ["grad_x_input", "integrated_gradients", "shapley_values", "shares"],
    "amr.fusion.attributor": ["AttributionRegularizer", "Attributor"],
    "amr.fusion.config": ["FitConfig"],
    "amr.fusion.fit": ["fit"],
    "amr.fusion.heads.base": ["Head", "heads"],
    "amr.fusion.methods.base": ["Method", "methods"],
    "amr.fusion.predict": ["predict"],
    "amr.fusion.regularizer": ["regularization"],
    "amr.fusion.stacked": ["Draws", "StackedLinear", "of_runs"],
    "amr.data_manifests.datasets": ["WEIGHTLESS", "Dataset", "datasets"],
    "amr.data_manifests.manifest": ["Manifest"],
    "amr.data_manifests.report": ["report_on"],
    "amr.extract.cache": ["Cache"],
}
MOVED = {
    "amr.extract.cache",
    "amr.extract.encoders.families",
    "amr.extract.run",
    "amr.fusion.attributor",
    "amr.fusion.regularizer",
    "amr.fusion.stacked",
    "amr.data_manifests.report",
}


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, check=False)


def test_all_is_what_is_promised_and_every_name_is_there():
    assert set(amr.__all__) == set(dir(amr)) == PROMISED
    for name in amr.__all__:
        assert getattr(amr, name) is not None
    with pytest.raises(AttributeError):
        amr.nothing  # noqa: B018


def test_every_public_object_says_what_it_is_where_it_comes_from():
    for node in STUB.body:
        assert isinstance(node, ast.ImportFrom)
        (alias,) = node.names
        assert alias.asname == alias.name
        found = getattr(amr, alias.name)
        if inspect.isclass(found) or inspect.isfunction(found):
            assert found.__module__ == f"amr.{node.module}"
            assert found.__doc__


def test_the_functions_of_balance_are_there_before_anything_else_is_imported(tmp_path):
    done = python("-c", "from amr import balance; import amr; print(amr.balance.agm_logits.__name__)", cwd=tmp_path)
    assert done.stdout.strip() == "agm_logits", done.stderr


def test_importing_amr_imports_neither_torch_nor_h5py_nor_pandas(tmp_path):
    code = "import sys, amr; print({'torch', 'h5py', 'pandas', 'sklearn', 'numpy'} & sys.modules.keys())"
    done = python("-c", code, cwd=tmp_path)
    assert done.stdout.strip() == "set()", done.stderr


@pytest.mark.parametrize("path", OLD_PATHS)
def test_paths_of_version_0_1_work_and_warn(path):
    module = importlib.import_module(path)
    for name in OLD_PATHS[path]:
        if path in MOVED:
            with pytest.warns(DeprecationWarning, match=rf"{path}\.{name} is now amr\.\S+; the old name works until"):
                assert getattr(module, name) is not None
        else:
            assert getattr(module, name) is not None
    with pytest.raises(AttributeError):
        module.nothing  # noqa: B018


def test_python_m_amr_is_the_command(tmp_path):
    done = python("-m", "amr", "--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"amr {amr.__version__}\n")
    done = python("-m", "amr", "fitt", cwd=tmp_path)
    assert done.returncode == 2
    assert "Did you mean fit?" in done.stderr


def test_the_shell_completes_commands(tmp_path):
    complete = {"_AMR_COMPLETE": "complete_bash", "COMP_WORDS": "amr ext", "COMP_CWORD": "1"}
    code = f"import os, sys; os.environ.update({complete!r}); sys.argv = ['amr']; from amr.cli import main; main()"
    assert python("-c", code, cwd=tmp_path).stdout.split() == ["extract"]
