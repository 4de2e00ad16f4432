"""Commands that are killed at random moments, and given again until they end, end as if they had not been killed."""

import pytest

from .commands import CASES
from .random_kills import KILLED, kill_at_random


@pytest.mark.parametrize("name", [names[1] for names in KILLED.values()])
def test_a_command_killed_at_random_ends_as_one_that_was_not(name, tmp_path):
    (case,) = (case for case in CASES if case.name == name)
    lost, rounds = kill_at_random(case, 3, 0, tmp_path)
    assert lost == []
    assert rounds > 0
