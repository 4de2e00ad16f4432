"""Points in the files of each logger: run -> name -> (epoch, value), as they stand there, repeated ones, too."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import wandb
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.util.tensor_util import make_ndarray
from wandb.proto.wandb_internal_pb2 import Record

Points = dict[str, list[tuple[int, float]]]
BLOCK = 32768  # of the log format of LevelDB, in which wandb writes


def of_csv(file: Path) -> dict[str, Points]:
    found: dict[str, Points] = defaultdict(lambda: defaultdict(list))
    for row in pd.read_csv(file, dtype={"fold": "Int64"}).itertuples():
        name = row.name if pd.isna(row.fold) else f"fold-{row.fold}/{row.name}"
        found[row.run][name].append((row.epoch, row.value))
    return found


def of_tensorboard(folder: Path) -> Points:
    """Curves of one run."""
    found: Points = defaultdict(list)
    for event in _events(folder):
        for value in event.summary.value:
            if not value.tag.startswith("_hparams_"):
                found[value.tag].append((event.step, float(make_ndarray(value.tensor))))
    return found


def settings_of_tensorboard(folder: Path) -> dict[str, Any]:
    """Settings in the HParams tab."""
    for event in _events(folder):
        for value in event.summary.value:
            content = HParamsPluginData.FromString(value.metadata.plugin_data.content)
            if value.tag == "_hparams_/session_start_info":
                given = content.session_start_info.hparams
                return {name: getattr(each, str(each.WhichOneof("kind"))) for name, each in given.items()}
    return {}


def _events(folder: Path) -> Iterator[Any]:
    for file in sorted(folder.glob("events.out.tfevents.*")):
        yield from EventFileLoader(str(file)).Load()


def of_wandb(folder: Path) -> dict[str, dict[str, Any]]:
    """Run -> group, config, summary, exit_code, and points of its offline folder, of which there is one."""
    wandb.teardown()  # its service writes what it holds
    found: dict[str, dict[str, Any]] = {}
    for file in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
        run: dict[str, Any] = {"points": defaultdict(list), "config": {}, "summary": {}}
        for content in _leveldb(file.read_bytes()):
            record = Record.FromString(content)
            kind = record.WhichOneof("record_type")
            if kind == "run":
                run |= {"name": record.run.display_name, "group": record.run.run_group, "project": record.run.project}
                run["config"] |= {each.key: json.loads(each.value_json) for each in record.run.config.update}
            elif kind == "history":
                row = {(i.key or ".".join(i.nested_key)): json.loads(i.value_json) for i in record.history.item}
                for name, value in row.items():
                    if not name.startswith("_") and name != "epoch":
                        run["points"][name].append((row["epoch"], value))
            elif kind == "summary":
                items = record.summary.update
                run["summary"] |= {(i.key or ".".join(i.nested_key)): json.loads(i.value_json) for i in items}
            elif kind == "exit":
                run["exit_code"] = record.exit.exit_code
        assert run["name"] not in found
        found[run["name"]] = run
    return found


def _leveldb(content: bytes) -> Iterator[bytes]:
    """Records of a log: chunks of checksum, length, type (1 whole, 2 first, 3 middle, 4 last) and data, in blocks."""
    at, record = 7, b""  # after the header
    while at + 7 <= len(content):
        if BLOCK - at % BLOCK < 7:
            at += BLOCK - at % BLOCK
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        record += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield record
            record = b""
