"""Files appear whole or not at all, and nothing else is touched."""

import errno
import os
import signal
import stat
import subprocess
import sys
import threading

import pytest

from agad_tf.errors import InputError, reading
from agad_tf.files import held, remove_abandoned, rename_whole, work_in, write_atomically, written_whole


def test_a_link_stays_and_what_it_names_is_written(tmp_path):
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / "target.csv"
    target.write_text("old")
    (tmp_path / "link.csv").symlink_to(target)
    write_atomically(tmp_path / "link.csv", b"new")
    assert (tmp_path / "link.csv").is_symlink()
    assert target.read_bytes() == b"new"
    (tmp_path / "dangling").symlink_to(tmp_path / "real" / "later")
    write_atomically(tmp_path / "dangling", b"there")
    assert (tmp_path / "real" / "later").read_bytes() == b"there"


def test_a_device_is_written_to_and_stays():
    write_atomically(os.devnull, b"gone")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_a_pipe_is_written_to_and_stays(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    read = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    write_atomically(tmp_path / "pipe", b"through")
    reader.join(10)
    assert read == [b"through"]
    assert stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)


def test_two_writers_do_not_mix_and_a_planted_name_is_not_followed(tmp_path):
    out, victim = tmp_path / "s.csv", tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "s.csv.partial").symlink_to(victim)
    with written_whole(out, "w") as first:
        first.write("first ")
        with written_whole(out, "w") as second:
            second.write("second ")
            first.write("first")
        assert out.read_text() == "second "
    assert out.read_text() == "first first"
    assert victim.read_text() == "mine"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["s.csv", "s.csv.partial", "victim"]


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path):
    code = (
        "import sys, time; from agad_tf.files import written_whole\n"
        "with written_whole(sys.argv[1]) as file:\n"
        "    file.write(b'half'); file.flush(); print('writing', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "out.json")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout.readline() == "writing\n"
        write_atomically(tmp_path / "out.json", b"other")
        assert len(list(tmp_path.glob(".out.json.*.partial"))) == 1  # it is alive: left alone
        writer.send_signal(signal.SIGKILL)
    write_atomically(tmp_path / "out.json", b"whole")
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.json"]


def test_abandoned_folders_are_removed_and_those_at_work_are_not(tmp_path):
    (tmp_path / ".partial-dead").mkdir()
    with work_in(tmp_path / ".partial-alive"):
        remove_abandoned(tmp_path.glob(".partial-*"))
        assert [entry.name for entry in tmp_path.iterdir()] == [".partial-alive"]


def test_a_full_disk_names_the_file_and_leaves_the_old_one(tmp_path):
    out = tmp_path / "out"
    out.write_text("old")

    def on_a_full_disk():
        with written_whole(out) as file:
            file.write(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left") as caught:
        on_a_full_disk()
    assert caught.value.filename == str(out)
    assert out.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_files_are_on_the_disk_before_they_get_their_name(tmp_path, monkeypatch):
    events = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (events.append(os.fstat(number).st_ino), sync(number))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (events.append("rename"), replace(a, b))[1])
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_text("x")
    inodes = [os.stat(tmp_path / name).st_ino for name in ("a/b/file", "a/b", "a")]
    rename_whole(tmp_path / "a", tmp_path / "c")
    assert events == [*inodes, "rename", os.stat(tmp_path).st_ino]


def test_one_holds_a_lock(tmp_path):
    with held(tmp_path) as free:
        assert free
        with held(tmp_path) as again:
            assert not again
    with held(tmp_path) as free:
        assert free


@pytest.mark.parametrize("error", [KeyError("x"), MemoryError(), RecursionError("deep"), ValueError("a\nb")])
def test_what_libraries_raise_over_a_file_becomes_one_line(error):
    with pytest.raises(InputError, match="f: expected a thing, received something else") as caught:  # noqa: SIM117
        with reading("f", "a thing", "make it anew"):
            raise error
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is error
