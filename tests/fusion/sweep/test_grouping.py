from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from amr.fusion.data.folds import Fold, TrainingData
from amr.fusion.sweep.grouping import group_size, partition

from ..conftest import make_clips, make_recipe


@given(st.lists(st.integers(0, 4), max_size=40), st.integers(1, 12), st.integers(1, 5))
def test_every_run_is_in_one_group_with_common_batches(seeds, most, least_groups):
    groups = partition(seeds, most, least_groups)
    assert sorted(run for group in groups for run in group) == list(range(len(seeds)))
    for group in groups:
        assert 1 <= len(group) <= most
        seeds_of_group = [seeds[run] for run in group]
        assert seeds_of_group == sorted(seeds_of_group)
        assert len(set(Counter(seeds_of_group).values())) == 1


@given(st.integers(1, 8), st.integers(1, 13), st.integers(1, 6))
def test_no_core_has_much_more_to_do_than_another(num_seeds, each, least_groups):
    """Each group goes, in order, to the first free of as many cores: none has more than its part plus one seed."""
    busy = [0] * least_groups
    seeds = [seed for seed in range(num_seeds) for _ in range(each)]
    for group in partition(seeds, len(seeds), least_groups):
        busy[busy.index(min(busy))] += len(group)
    assert max(busy) <= -(-num_seeds * each // least_groups) + each


def test_sixty_five_runs_are_divided_between_seeds():
    seeds = [seed for seed in range(5) for _ in range(13)]
    assert [len(group) for group in partition(seeds, 100, 2)] == [39, 26]
    assert sorted(map(len, partition(seeds, 10, 2))) == [6] * 5 + [7] * 5
    assert len(partition(seeds, 100, 1)) == 1
    assert [len(group) for group in partition(seeds, 100, 4)] == [26, 13, 13, 13]
    assert [len(group) for group in partition(seeds, 25, 4)] == [13] * 5


def test_a_group_fits_the_cache_and_is_larger_with_common_batches():
    clips = make_clips(30)
    data = TrainingData(None, None, (Fold(None, None, clips, clips, clips),), ())
    recipe = make_recipe(clips)
    separate, common = (group_size(recipe, data, shares=shares) for shares in (False, True))
    assert common > separate >= 1
    huge = make_recipe(make_clips(30, {"audio": 4000, "video": 4000}), hidden=1000)
    assert group_size(huge, data) == 1
