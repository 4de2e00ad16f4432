"""Folder of a model: on this machine, in the cache of the Hub, or downloaded once. Nothing of it is run as code."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

TIMEOUT_SECONDS = 10.0
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack")
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "*.model")  # without any, the library makes an empty one
TOKENIZERS = (*VOCABULARIES, "merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
SENTENCES = ("modules.json", "sentence_bert_config.json", "1_Pooling/config.json")
WANTED = ("config.json", WEIGHTS, "model-*-of-*.safetensors", WEIGHTS_INDEX, *PROCESSORS, *TOKENIZERS, *SENTENCES)
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True)
class Repository:
    """Folder of a model.

    Args:
        name: Model as it was given: a folder, or a name on the Hub.
        folder: Folder of its files.
        revision: Commit that was downloaded; None for a folder of the user's.
    """

    name: str
    folder: Path
    revision: str | None = None

    @cached_property
    def config(self) -> dict[str, Any]:
        """Content of config.json.

        Raises:
            FileNotFoundError: There is none.
            ValueError: It is damaged, names no architecture, or asks for code of its own.
        """
        config = self.read_json("config.json")
        if config is None:
            raise FileNotFoundError(
                f"hf must name a folder with config.json, got {str(self.folder)!r} without. "
                "Save the model there with save_pretrained, and its processor, too."
            )
        if not isinstance(config.get("model_type"), str):
            raise ValueError(
                f"config.json must have a model_type, got none in {str(self.folder)!r}. "
                "Save the model with save_pretrained of transformers."
            )
        for file in ("config.json", *PROCESSORS, "tokenizer_config.json"):
            if (self.read_json(file) or {}).get("auto_map"):
                raise ValueError(
                    f"hf must name a model whose code is part of transformers, got {self.name!r}, whose {file} has an "
                    "auto_map to code of its own, which is never run. Name another model."
                )
        return config

    def read_json(self, name: str) -> Any:
        """Content of a JSON file; None if it does not exist.

        Raises:
            ValueError: The file is damaged.
        """
        path = self.folder / name
        if not path.is_file():
            return None
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{name} must be JSON, got {str(path)!r}: {error}. Copy it again.") from error

    def check_weights(self) -> None:
        """Refuse a folder without weights in .safetensors.

        Raises:
            FileNotFoundError: There are no weights.
            ValueError: There are weights in a format that can hold code.
        """
        if (self.folder / WEIGHTS).is_file() or (self.folder / WEIGHTS_INDEX).is_file():
            return
        others = sorted(path.name for path in self.folder.iterdir() if path.suffix in PICKLED)
        raise _no_safetensors(self.name, others, str(self.folder))

    def files_sha256(self, patterns: Iterable[str]) -> dict[str, str]:
        """Checksums of the files that fit the patterns, by name."""
        found = sorted({path for pattern in patterns for path in self.folder.glob(pattern)})
        return {
            path.relative_to(self.folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in found
        }


def find_repository(model: str | None, revision: str | None) -> Repository:
    """Find a model: a folder where one of this name exists, else a name on the Hub, which is downloaded once.

    Raises:
        FileNotFoundError: There is no such folder, and no such model, or no answer from the Hub.
        ValueError: No model is given, or a revision of a folder, or the model has no weights in .safetensors.
    """
    if model is None:
        raise ValueError("hf must name a model or a folder, got none. Type hf:facebook/dinov2-base.")
    folder = Path(os.path.expanduser(model))
    if folder.is_dir():
        if revision is not None:
            raise ValueError(f"revision must be left out for a folder, got {revision} for {model!r}. Leave it out.")
        return Repository(model, folder)
    if not _HUB_NAME.fullmatch(model) or folder.exists():
        raise FileNotFoundError(f"hf must name a folder or a model on the Hub, got {model!r}. Check the path.")
    return _cached(model, revision) or _downloaded(model, revision)


def _cached(model: str, revision: str | None) -> Repository | None:
    """The model as it was downloaded before, None if it lacks its config or weights."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(model, revision=revision, local_files_only=True, allow_patterns=list(WANTED)))
    except (LocalEntryNotFoundError, HfHubHTTPError, FileNotFoundError):
        return None
    has_weights = any((folder / name).is_file() for name in (WEIGHTS, WEIGHTS_INDEX))
    return Repository(model, folder, folder.name) if has_weights and (folder / "config.json").is_file() else None


def _downloaded(model: str, revision: str | None) -> Repository:
    from huggingface_hub import HfApi, constants, snapshot_download

    at = "" if revision is None else f" at revision {revision}"
    try:
        info = HfApi().model_info(model, revision=revision, timeout=TIMEOUT_SECONDS)
        names = [each.rfilename for each in info.siblings or []]
        has_weights = bool({WEIGHTS, WEIGHTS_INDEX} & {*names})
        folder = has_weights and snapshot_download(
            model, revision=info.sha, allow_patterns=list(WANTED), etag_timeout=TIMEOUT_SECONDS, max_workers=2
        )
    except Exception as error:  # the Hub's client and its own client of HTTP have errors of their own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise FileNotFoundError(
            f"hf must name a folder that exists, or a model on the Hub, got {model!r}{at}: no such folder here, none "
            f"in {constants.HF_HUB_CACHE}, and no answer ({reason}). Without a network, copy the folder that "
            f"`hf download {model} --local-dir FOLDER` makes elsewhere, and type hf:FOLDER."
        ) from error
    if not folder:
        raise _no_safetensors(model, [name for name in names if name.endswith(PICKLED)], f"hf:{model}{at}")
    return Repository(model, Path(folder), info.sha)


def _no_safetensors(model: str, others: list[str], place: str) -> Exception:
    if not others:
        return FileNotFoundError(
            f"weights must be in {WEIGHTS}, got none in {place!r}. Save the model there with save_pretrained."
        )
    return ValueError(
        f"weights must be in {WEIGHTS}, got {others[0]} in {place!r}, a format that can hold code. Pass revision= with "
        f"a conversion (the Hub's are at refs/pr/N), or save it anew: "
        f"AutoModel.from_pretrained({model!r}).save_pretrained('FOLDER')."
    )
