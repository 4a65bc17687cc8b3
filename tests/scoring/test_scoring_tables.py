"""Rows of tables to score: every good row is read as it is in the table, every broken one is told."""

import io

import numpy as np
import pytest
from scipy.io import savemat

from agad_tf.identity import Identity
from agad_tf.scoring import tables
from agad_tf.scoring.samples import samples_of

ROWS = np.array([[1, 2.5, -3], [4, 5, 6e-7], [7, 8, 9]])
NUMBERS = [",".join(map(repr, row)) for row in ROWS.tolist()]


def read(path, features=3, label_column=None, columns=None):
    return list(tables.table_samples(str(path), features, label_column, Identity("table", columns)))


def check_rows(samples, expected=ROWS):
    assert [sample.row for sample in samples] == list(range(len(expected)))
    assert not [sample.error for sample in samples if sample.error]
    received = np.stack([sample.value for sample in samples])
    assert received.dtype == np.float64
    np.testing.assert_array_equal(received, expected)


def write(tmp_path, *lines, name="t.csv", end="\n"):
    path = tmp_path / name
    path.write_text(end.join(lines) + end, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "lines",
    [
        NUMBERS,
        ["a,b,c", *NUMBERS],
        ["\ufeffa,b,c", *NUMBERS],
        ["a,b,c,label", *(f"{row},1" for row in NUMBERS)],
        ["y,a,b,c", *(f"normal,{row}" for row in NUMBERS)],
        [f"{row},0" for row in NUMBERS],
        ["", "a,b,c", *NUMBERS, "", ""],
        [row.replace(",", ";") for row in NUMBERS],
        [row.replace(",", "\t") for row in NUMBERS],
        ['"a","b","c"', *('"' + row.replace(",", '","') + '"' for row in NUMBERS)],
    ],
    ids=["bare", "header", "bom", "label", "first", "last", "ends", "semicolon", "tab", "quoted"],
)
def test_csv_layouts(tmp_path, lines):
    check_rows(read(write(tmp_path, *lines)))
    check_rows(read(write(tmp_path, *lines, end="\r\n")))


def test_every_row_has_a_result_also_where_it_is_empty(tmp_path):
    samples = read(write(tmp_path, NUMBERS[0], "", " , ,", NUMBERS[1], "", NUMBERS[2], "", ""))
    assert [sample.row for sample in samples] == list(range(6))
    assert [sample.error is None for sample in samples] == [True, False, False, True, False, True]
    assert "line 2: expected numbers, received an empty row" in samples[1].error


def test_columns_are_taken_by_name(tmp_path, caplog):
    turned = [",".join(reversed(row.split(","))) for row in NUMBERS]
    check_rows(read(write(tmp_path, "c,b,a", *turned), columns=("a", "b", "c")))
    check_rows(read(write(tmp_path, "label,c,b,a", *(f"0,{row}" for row in turned)), columns=("a", "b", "c")))
    assert not caplog.records
    check_rows(read(write(tmp_path, ",a,b,c", *(f"7,{row}" for row in NUMBERS)), columns=("a", "b", "c")))
    assert "columns without a name are taken for a row index and left out: 0" in caplog.text
    check_rows(read(write(tmp_path, *NUMBERS), columns=("a", "b", "c")))
    assert "no column names: taken in the order of training: 'a', 'b', 'c'" in caplog.text
    # Names may be numbers, as data frames give them.
    check_rows(read(write(tmp_path, "2,1,0", *turned), columns=("0", "1", "2")))


@pytest.mark.parametrize(
    ("header", "columns", "said"),
    [
        ("id,a,b", "abc", "missing: 'c'; unknown: 'id'"),
        ("a,b,c,id", "abc", "unknown: 'id'"),
        ("a,b,c,label,class", "abc", "unknown: 'class'"),
        ("p,q,r", "abc", "missing: 'a', 'b', 'c'; unknown: 'p', 'q', 'r'"),
        ("a,b,b", "abc", "'b' twice"),
        ("a,b,c,id", None, "expected 3 columns"),
        ("a,b,c,label", ("a", "b", "label"), "unknown: 'c'"),
    ],
)
def test_a_column_that_is_no_label_is_never_left_out(tmp_path, header, columns, said):
    row = ",".join("1" for _ in header.split(","))
    (sample,) = read(write(tmp_path, header, row, row), columns=columns and tuple(columns))
    assert sample.row is None
    assert said in sample.error
    assert "\n" not in sample.error


def test_without_a_header_a_last_column_too_many_is_the_label_and_told(tmp_path, caplog):
    check_rows(read(write(tmp_path, *(f"{row},0" for row in NUMBERS))))
    assert "the last is taken for the label and left out" in caplog.text


def test_large_offsets_keep_their_digits(tmp_path):
    rows = np.array([[5400123.041, 1, 2], [5400123.042, 1, 2]])
    check_rows(read(write(tmp_path, *(",".join(map(repr, row)) for row in rows.tolist()))), rows)
    np.savez(tmp_path / "t.npz", X=rows)
    check_rows(read(tmp_path / "t.npz"), rows)


def test_an_archive_may_name_its_columns(tmp_path):
    np.savez(tmp_path / "t.npz", X=ROWS[:, ::-1], feature_names=list("cba"))
    check_rows(read(tmp_path / "t.npz", columns=("a", "b", "c")))
    np.savez(tmp_path / "t.npz", X=ROWS, feature_names=["a", "b", "id"])
    (sample,) = read(tmp_path / "t.npz", columns=("a", "b", "c"))
    assert "missing: 'c'; unknown: 'id'" in sample.error


def test_the_label_column_can_be_named(tmp_path):
    path = write(tmp_path, "a,kind,b,c", *(row.replace(",", ",bad,", 1) for row in NUMBERS))
    check_rows(read(path, label_column="kind"))
    check_rows(read(path, label_column=1))
    (sample,) = read(path, label_column="colour")
    assert "'colour'" in sample.error


@pytest.mark.parametrize(
    "first",
    ["a,b", "a,b,label", "1,2", "a,b,c,d,e", "1,2,3,4,5"],
    ids=["few", "label", "bare", "many", "many-bare"],
)
def test_a_csv_file_of_another_width_is_one_error(tmp_path, first):
    (sample,) = read(write(tmp_path, first, *NUMBERS))
    assert sample.row is None
    assert "expected 3 columns" in sample.error


def test_broken_lines_are_told_and_the_others_read(tmp_path):
    lines = [
        "a,b,c",
        NUMBERS[0],
        "1,2",
        "1,2,3,4",
        "1,two,3",
        "1,,3",
        "1,nan,3",
        "1,inf,3",
        "1,1e39,3",
        '1,"2,3',
        "1,\x00,3",
        NUMBERS[1],
        "9" * (2 << 20),
        NUMBERS[2],
    ]
    samples = read(write(tmp_path, *lines))
    assert [sample.row for sample in samples] == list(range(len(lines) - 1))
    good = [sample for sample in samples if sample.error is None]
    np.testing.assert_array_equal([sample.value for sample in good], ROWS)
    for sample in samples:
        if sample.error is not None:
            assert f"t.csv: line {sample.row + 2}: expected" in sample.error
            assert "\n" not in sample.error
            assert len(sample.error) < 200 + len(str(tmp_path))


def test_bytes_that_are_no_text_spoil_one_line(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(f"{NUMBERS[0]}\n1,\xff\xfe,3\n{NUMBERS[1]}\n".encode("latin-1"))
    assert [sample.error is None for sample in read(path)] == [True, False, True]


@pytest.mark.parametrize("name", ["X", "x", "arr_0"])
def test_npz(tmp_path, name):
    for number, array in enumerate(
        (ROWS, ROWS.astype(np.float64), np.asfortranarray(ROWS), ROWS[::-1][::-1])
    ):
        path = tmp_path / f"{number}.npz"
        np.savez(path, **{name: array, "y": np.zeros(3), "note": np.array("text")})
        check_rows(read(path))
    np.savez_compressed(tmp_path / "small.npz", **{name: ROWS})
    check_rows(read(tmp_path / "small.npz"))


def test_npz_is_read_in_pieces(tmp_path, monkeypatch):
    many = np.random.default_rng(0).normal(size=(1000, 3)).astype(np.float32)
    np.savez(tmp_path / "t.npz", X=many)
    monkeypatch.setattr(tables, "_BLOCK", 1024)
    check_rows(read(tmp_path / "t.npz"), many)


def test_mat(tmp_path):
    savemat(tmp_path / "t.mat", {"X": ROWS.astype(np.float64), "y": np.zeros((3, 1))})
    check_rows(read(tmp_path / "t.mat"))


def test_values_that_are_missing_in_an_array_spoil_their_rows(tmp_path):
    rows = ROWS.astype(np.float64)
    rows[1, 1] = np.nan
    for name in ("t.npz", "t.mat"):
        save = np.savez if name.endswith("npz") else lambda path, **arrays: savemat(path, arrays)
        save(tmp_path / name, X=rows)
        samples = read(tmp_path / name)
        assert [sample.error is None for sample in samples] == [True, False, True]
        assert "row 1" in samples[1].error


def _archive(**arrays):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _flipped(data, position):
    return data[:position] + bytes([data[position] ^ 0xFF]) + data[position + 1 :]


BIG = np.random.default_rng(0).normal(size=(5000, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", b""),
        ("t.csv", b"\n\n"),
        ("t.csv", b"\x89PNG\r\n\x1a\n" + bytes(range(256))),
        ("t.npz", b""),
        ("t.npz", b"no archive"),
        ("t.npz", _archive(X=BIG)[:-200]),
        ("t.npz", _flipped(_archive(X=BIG), 20_000)),
        ("t.npz", _archive(X=np.zeros((0, 3)))),
        ("t.npz", _archive(X=np.zeros((4, 2)))),
        ("t.npz", _archive(X=np.zeros((4, 3, 3)))),
        ("t.npz", _archive(X=np.array([["a", "b", "c"]]))),
        ("t.npz", _archive(a=np.zeros((4, 3)), b=np.zeros((4, 3)))),
        ("t.npz", _archive(X=np.zeros((2, 3)).astype(object))),
        ("t.mat", b""),
        ("t.mat", b"MATLAB 5.0 MAT-file" + bytes(200)),
        ("t.txt", b"1,2,3"),
    ],
)
def test_files_that_are_no_table_are_one_error(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    (sample,) = read(tmp_path / name)
    assert sample.row is None
    assert sample.value is None
    assert "expected" in sample.error
    assert "received" in sample.error or "convert" in sample.error
    assert "\n" not in sample.error


def test_what_there_is_to_score(tmp_path):
    path = write(tmp_path, *NUMBERS)
    (tmp_path / "folder").mkdir()
    check_rows(list(samples_of([str(path)], io.BytesIO(), 3)))
    both = list(samples_of([str(tmp_path / "folder"), str(path)], io.BytesIO(), 3))
    assert len(both) == 4
    assert "received none of them" in both[0].error
    (image,) = samples_of([str(path)], io.BytesIO(), None)
    assert (image.path, image.row, image.value) == (str(path), None, None)
