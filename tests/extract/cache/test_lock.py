"""Which path the error of a held lock names."""

import re

import pytest

from amr.extract.cache.lock import lock


def test_the_error_names_what_the_option_sets(tmp_path):
    cache = tmp_path / "a.h5"
    message = re.escape(f"{str(cache)!r} must be written by one extraction")
    with lock(cache), pytest.raises(RuntimeError, match=message), lock(cache):
        pass
    inner = tmp_path / ".unfinished"
    message = re.escape(f"{str(tmp_path)!r} must be written by one fit")
    with lock(inner), pytest.raises(RuntimeError, match=message), lock(inner, work="fit", owner=tmp_path):
        pass


def test_the_lock_ends_with_its_block(tmp_path):
    with lock(tmp_path / "a.h5"):
        assert (tmp_path / "a.h5.lock").is_file()
    with lock(tmp_path / "a.h5"):
        pass
    assert list(tmp_path.iterdir()) == []
