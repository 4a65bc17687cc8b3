"""Folders to score: links are followed as in training, circles are not."""

import io

from agad_tf.scoring.files import find_files


def test_linked_folders_are_scored_and_circles_end(tmp_path, caplog):
    for name in ("photos/a.png", "elsewhere/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "photos" / "line2").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos" / "back").symlink_to(tmp_path / "photos")
    found = [sample.path for sample in find_files([str(tmp_path / "photos")], io.BytesIO(), table=False)]
    assert found == [str(tmp_path / "photos" / "a.png"), str(tmp_path / "photos" / "line2" / "b.png")]
    assert "1 files do not end in" in caplog.text
    assert "back" in caplog.text
