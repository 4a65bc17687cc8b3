"""Where rows are written: two jobs at once, links, pipes, and names that somebody planted."""

import os
import sys
import threading

import pytest

from agad_tf.errors import InputError
from agad_tf.files import check_writable
from agad_tf.scoring.results import open_output


def fail_after(write, text):
    write(text)
    raise RuntimeError


def test_two_jobs_at_once_leave_one_of_them_whole(tmp_path):
    out = tmp_path / "s.csv"
    with open_output(out, sys.stdout) as first:
        first.write("first\n" * 1000)
        with open_output(out, sys.stdout) as second:
            second.write("second\n" * 10)
            first.flush()
        assert out.read_text() == "second\n" * 10
        first.write("first\n")
    assert out.read_text() == "first\n" * 1001
    assert os.listdir(tmp_path) == ["s.csv"]


def test_a_planted_link_is_not_followed(tmp_path):
    victim, out = tmp_path / "victim", tmp_path / "s.csv"
    victim.write_text("mine")
    (tmp_path / "s.csv.partial").symlink_to(victim)
    check_writable(out)
    with open_output(out, sys.stdout) as stream:
        stream.write("rows")
    with pytest.raises(RuntimeError), open_output(out, sys.stdout) as stream:
        fail_after(stream.write, "rows")
    assert victim.read_text() == "mine"
    assert (tmp_path / "s.csv.partial").read_text() == "rows"


def test_a_link_is_followed(tmp_path):
    target, out = tmp_path / "target.csv", tmp_path / "s.csv"
    out.symlink_to(target)
    with open_output(out, sys.stdout) as stream:
        stream.write("rows")
    assert out.is_symlink()
    assert target.read_text() == "rows"


def test_a_pipe_is_written_to_and_stays_one(tmp_path):
    pipe, received = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: received.append(pipe.read_text()))
    reader.start()
    check_writable(pipe)
    with open_output(pipe, sys.stdout) as stream:
        stream.write("rows")
    reader.join(10)
    assert received == ["rows"]
    assert pipe.is_fifo()
    check_writable(os.devnull)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="received the folder"):
        check_writable(tmp_path)
    with pytest.raises(InputError, match="Expected an existing folder"):
        check_writable(tmp_path / "no" / "s.csv")
