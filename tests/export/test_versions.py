"""Version numbers: each is used once, whatever is removed in between."""

import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from agad_tf.errors import InputError
from agad_tf.export.versions import RECORD, check_one_kind, new_version


def write(folder, text="x"):
    with new_version(folder) as version:
        (version.partial / "model.bin").write_text(text)
    return version.path.name


def test_a_removed_version_gives_its_number_to_no_other(tmp_path):
    folder = tmp_path / "parts"
    assert [write(folder), write(folder)] == ["1", "2"]
    shutil.rmtree(folder / "2")
    assert write(folder) == "3"
    shutil.rmtree(folder / "1")
    shutil.rmtree(folder / "3")
    assert write(folder) == "4"
    (folder / RECORD).unlink()  # as in folders made before there was a record
    assert write(folder) == "5"


def test_a_record_that_is_damaged_stops_nothing(tmp_path):
    folder = tmp_path / "parts"
    write(folder)
    (folder / RECORD).write_bytes(b"1\n\xff\xfe\n7\n\n-3\n2x\n")
    assert write(folder) == "8"


def test_exports_at_once_get_numbers_of_their_own(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(lambda _: write(tmp_path / "parts"), range(24)))
    assert len(set(names)) == 24


def test_a_version_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(OSError, match="full"), new_version(tmp_path / "parts"):
        raise OSError("the disk is full")
    assert [path.name for path in (tmp_path / "parts").iterdir()] == []


def test_a_folder_that_is_no_version_does_not_count(tmp_path):
    (tmp_path / "²").mkdir()
    check_one_kind(tmp_path, "model.bin")
    assert write(tmp_path) == "1"
    with pytest.raises(InputError, match=r"expected versions with model\.tflite"):
        check_one_kind(tmp_path, "model.tflite")
