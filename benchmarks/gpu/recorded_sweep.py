"""`benchmarks/sweep.py` with recorded steps, as `amr sweep` trains on a GPU; its options."""

from __future__ import annotations

from functools import partial

import sweep

from amr.fusion.train.graphs import graphed_step

if __name__ == "__main__":
    sweep.train_group = partial(sweep.train_group, make_step=graphed_step)
    sweep.main()
