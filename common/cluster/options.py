"""Options of commands that may run on a Ray cluster, checked without importing ray."""

from __future__ import annotations

import importlib.util
from dataclasses import fields
from typing import Any

from amr.common.options import CLUSTER, flag

ENGINES = ("local", "ray")
ADDRESS_HELP = "auto, HOST or HOST:PORT of the Ray cluster; by default Ray is started on this machine, and ended."


def check_engine(config: Any) -> None:
    """Refuse options of a cluster without one, and a cluster without the package ray.

    Args:
        config: Config with the field `engine` in the panel `CLUSTER`.

    Raises:
        ValueError: An option does not fit, or ray is not installed.
    """
    if config.engine == "ray":
        check_ray()
        return
    for each in fields(config):
        value = getattr(config, each.name)
        if each.metadata.get("panel") == CLUSTER and each.name != "engine" and value != each.default:
            raise ValueError(
                f"{flag(each.name)} must be used with --engine ray, got {value}. Add it, or leave this out."
            )


def check_ray() -> None:
    """Refuse work on a cluster without the package ray.

    Raises:
        ValueError: It is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise ValueError(
            "--engine ray must have the package ray, got none. Install it on all nodes: pip install 'amr-fusion[ray]'."
        )
