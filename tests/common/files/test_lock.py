"""Which path the error of a held lock names."""

import errno
import multiprocessing
import re

import pytest

from amr.common.files.lock import is_left, lock, remove_left


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


def test_a_lock_without_a_holder_is_left_by_a_kill_and_hinders_nobody(tmp_path):
    path, file = tmp_path / "a", tmp_path / "a.lock"
    assert not is_left(path)
    file.touch()
    assert is_left(path)
    with lock(path):
        assert not is_left(path)
        remove_left(path)
        assert file.is_file()
    assert not file.exists()
    file.touch()
    remove_left(path)
    remove_left(path)
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_another_process_is_not_left(tmp_path):
    path = tmp_path / "a"
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_hold, args=(path, theirs))
    process.start()
    assert ours.poll(60)
    assert ours.recv()
    assert not is_left(path)
    remove_left(path)
    with pytest.raises(RuntimeError, match="a second one"), lock(path):
        pass
    process.kill()
    process.join()
    assert is_left(path)


def _hold(path, pipe):
    with lock(path):
        pipe.send(True)
        pipe.recv()
