from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from amr.fusion.data.folds import Fold, TrainingData
from amr.fusion.sweep.grouping import cut, group_size

from ..conftest import make_clips, make_recipe


@given(st.lists(st.integers(0, 4), max_size=40), st.integers(1, 12), st.integers(1, 5))
def test_every_run_is_in_one_group_that_shares_its_batches(seeds, most, num_workers):
    groups = cut(seeds, most, num_workers)
    assert sorted(place for group in groups for place in group) == list(range(len(seeds)))
    for group in groups:
        assert 1 <= len(group) <= most
        ours = [seeds[place] for place in group]
        assert ours == sorted(ours)
        assert len(set(Counter(ours).values())) == 1


@given(st.integers(1, 8), st.integers(1, 13), st.integers(1, 6))
def test_no_worker_has_much_more_to_do_than_another(num_seeds, each, num_workers):
    """Groups in order, each to the worker that is free first: at most one seed more than an even share."""
    busy = [0] * num_workers
    seeds = [seed for seed in range(num_seeds) for _ in range(each)]
    for group in cut(seeds, len(seeds), num_workers):
        busy[busy.index(min(busy))] += len(group)
    assert max(busy) <= -(-num_seeds * each // num_workers) + each


def test_sixty_five_runs_are_cut_where_seeds_end():
    seeds = [seed for seed in range(5) for _ in range(13)]
    assert [len(group) for group in cut(seeds, 100, 2)] == [26, 39]
    assert sorted(map(len, cut(seeds, 10, 2))) == [6] * 5 + [7] * 5
    assert len(cut(seeds, 100, 1)) == 1


def test_a_group_fits_the_workers_caches_and_grows_where_batches_are_shared():
    clips = make_clips(30)
    data = TrainingData(None, None, (Fold(None, None, clips, clips, clips),), ())
    recipe = make_recipe(clips)
    alone, shared = (group_size(recipe, data, shares=shares) for shares in (False, True))
    assert shared > alone > group_size(recipe, data, 4) >= 1
    assert group_size(recipe, data, 10**9) == 1
