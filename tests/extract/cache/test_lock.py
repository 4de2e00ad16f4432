"""Which path the error of a held lock names."""

import errno
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


def test_a_process_does_not_wait_for_itself(tmp_path):
    with lock(tmp_path / "a"), pytest.raises(RuntimeError, match="a second one"), lock(tmp_path / "a", on_wait=list):
        pass


def test_a_file_system_without_locks_is_not_waited_for(tmp_path, monkeypatch):
    def lockf(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.lockf", lockf)
    with pytest.raises(OSError, match="No locks available"), lock(tmp_path / "a", on_wait=list):
        pass
