"""Options of commands that may run on a Ray cluster, checked without importing ray."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, fields

from amr.common.options import CLUSTER, check_options, coerce_fields, flag, option

ENGINES = ("local", "ray")


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """Where the work is done: here, or by the workers of a Ray cluster.

    Raises:
        ValueError: An option does not fit, or ray is not installed.
    """

    engine: str = option(
        "local", "Who does the work: this process, or the workers of ray.", choices=ENGINES, panel=CLUSTER, since="0.2"
    )
    address: str | None = option(
        None,
        "auto, or HOST:PORT, of the Ray cluster of this machine; by default Ray is started here, and ended.",
        panel=CLUSTER,
        since="0.2",
    )
    num_gpus_per_worker: float = option(
        0.0, "Number of GPUs of each worker of the cluster, at most 1.", least=0, most=1, panel=CLUSTER, since="0.2"
    )

    def __post_init__(self) -> None:
        """Check the options."""
        coerce_fields(self)
        check_options(self)
        check_engine(self)


def check_gpus(config: ClusterOptions, device: str) -> None:
    """Refuse a GPU for workers that have none.

    Raises:
        ValueError: The device is a GPU, and workers have none.
    """
    if config.engine == "ray" and config.num_gpus_per_worker == 0 and device.startswith("cuda"):
        raise ValueError(
            f"--num-gpus-per-worker must be above 0 with --device {device}, got 0. Pass --num-gpus-per-worker 1."
        )


def check_engine(config: ClusterOptions) -> None:
    """Refuse options of a cluster without one, and a cluster without the package ray.

    Raises:
        ValueError: An option does not fit, or ray is not installed.
    """
    if config.engine == "ray":
        if importlib.util.find_spec("ray") is None:
            raise ValueError(
                "--engine ray must have the package ray, got none. "
                "Install it on all nodes: pip install 'amr-fusion[ray]'."
            )
        return
    for each in fields(config):
        name, value = flag(each.name), getattr(config, each.name)
        if each.metadata.get("panel") == CLUSTER and each.name != "engine" and value != each.default:
            raise ValueError(f"{name} must be used with --engine ray, got {value}. Add it, or leave out {name}.")
