"""Files that are replaced whole or not at all, and the cache."""

from __future__ import annotations

import hashlib
import os
import stat

import numpy as np
import pytest

from livepuppet.core import cache
from livepuppet.core.files import discard_leftovers, replacing, sha256, write_atomically


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_replaced(tmp_path, durable):
    path = tmp_path / "new folder" / "file.txt"
    write_atomically(path, "één", durable=durable)
    write_atomically(path, b"two", durable=durable)
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]
    assert sha256(path) == hashlib.sha256(b"two").hexdigest()


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file.txt"
    write_atomically(path, "old")
    with pytest.raises(RuntimeError), replacing(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_permissions(tmp_path):
    def mode(path):
        return stat.S_IMODE(path.stat().st_mode)

    path, umask = tmp_path / "file", os.umask(0o022)
    try:
        write_atomically(path, "a")
        assert mode(path) == 0o644
        path.chmod(0o640)
        write_atomically(path, "b")
        assert mode(path) == 0o640
        write_atomically(tmp_path / "secret", "c", mode=0o600)
        assert mode(tmp_path / "secret") == 0o600
    finally:
        os.umask(umask)


def test_a_link_stays_a_link(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    write_atomically(link, "new")
    assert link.is_symlink() and target.read_text() == "new"


def test_leftovers_of_a_killed_process_go(tmp_path):
    path = tmp_path / "model.bin"
    for name in (".model.bin.0123.part", ".other.bin.0123.part"):
        (tmp_path / name).write_text("half")
    discard_leftovers(path)
    assert [left.name for left in tmp_path.iterdir()] == [".other.bin.0123.part"]


def test_the_cache_remembers_by_everything_a_value_depends_on():
    facts = {"picture": [1, 2], "version": "1"}
    with pytest.raises(KeyError):
        cache.remembered("test", facts)
    cache.remember("test", facts, [1.5, None])
    assert cache.remembered("test", facts) == [1.5, None]
    with pytest.raises(KeyError):
        cache.remembered("test", {**facts, "version": "2"})
    (cache.cache_folder("test") / f"{cache.key_of(facts)}.json").write_text("{")
    with pytest.raises(KeyError):
        cache.remembered("test", facts)


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    cache.remember("test", {"a": 1}, 1)
    cache.remember_arrays("test", {"a": 1}, {"one": np.zeros(2)})


def test_the_cache_keeps_the_arrays_that_were_used_last(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cache, "KEPT", 2)

    def age(number, seconds):
        path = cache.cache_folder("test") / f"{cache.key_of({'n': number})}.npz"
        os.utime(path, (path.stat().st_mtime - seconds,) * 2)

    for number in range(2):
        cache.remember_arrays("test", {"n": number}, {"one": np.full(3, number)})
        age(number, 100 - number)
    assert cache.remembered_arrays("test", {"n": 0})["one"].tolist() == [0, 0, 0]
    cache.remember_arrays("test", {"n": 2}, {"one": np.full(3, 2)})
    with pytest.raises(KeyError):
        cache.remembered_arrays("test", {"n": 1})
    assert cache.remembered_arrays("test", {"n": 0})["one"].tolist() == [0, 0, 0]
