"""Mixed tables: categories become codes, gaps NaN, from files and from frames; what is neither is told."""

import json

import numpy as np
import pytest

from agad_tf.csv_rows import numeric_rows
from agad_tf.data.sources import csv_table
from agad_tf.data.sources.load import load_samples
from agad_tf.encoding import TableEncoding, learnt
from agad_tf.errors import InputError
from agad_tf.frames import frame_rows, table_encoding
from agad_tf.identity import Identity

NAN = np.nan
ENCODING = TableEncoding((None, ("blue", "red"), None), "indicator", (0, 1))
CSV = "a,colour,b,label\n1.5,red,7,0\n,blue,8,0\n2.5,red,9,1\n3.5,?,10,0\n"
ROWS = [[1.5, 1, 7], [NAN, 0, 8], [2.5, 1, 9], [3.5, NAN, 10]]


def written(tmp_path, text, name="t.csv"):
    (tmp_path / name).write_text(text)
    return tmp_path / name


def values(path, identity, features):
    return [value for _, value in numeric_rows(path, features, identity)]


def test_entries_of_a_row():
    names = ["a", "a missing", "colour=blue", "colour=red", "colour=other", "colour missing", "b"]
    assert ENCODING.entry_names(("a", "colour", "b")) == names
    assert ENCODING.width == 7
    expanded = ENCODING.expanded(np.array([*ROWS, [0, 2, 0]]), np.array([4.0, 1, 5]))
    assert expanded.tolist() == [
        [1.5, 0, 0, 1, 0, 0, 7],
        [4.0, 1, 1, 0, 0, 0, 8],
        [2.5, 0, 0, 1, 0, 0, 9],
        [3.5, 0, 0, 1, 0, 1, 10],
        [0.0, 0, 0, 0, 1, 0, 0],
    ]


def test_median_and_most_frequent_stand_for_gaps():
    assert ENCODING.fill_of(np.array(ROWS)).tolist() == [2.5, 1.0, 8.5]
    with pytest.raises(InputError, match="received none in column 0"):
        ENCODING.fill_of(np.array([[NAN, 1, 2]]))


def test_usable_values():
    rows = np.array([[1, 2, 3], [NAN, NAN, NAN], [1, 3, np.inf], [1e300, -1, 0], [0, 0.5, 0]])
    expected = [[1, 1, 1], [1, 1, 1], [1, 0, 0], [0, 0, 1], [1, 0, 1]]
    assert ENCODING.usable(rows).tolist() == [[bool(value) for value in row] for row in expected]
    strict = TableEncoding((None, ("x",)))
    assert strict.usable(np.array([[NAN, 1.0], [1, NAN]])).tolist() == [[False, True], [True, False]]


def test_it_survives_json():
    assert TableEncoding.from_columns(ENCODING.by_column()) == ENCODING
    identity = Identity("table", ("a", "colour", "b"), encoding=ENCODING)
    assert Identity.from_dict(json.loads(json.dumps(identity.to_dict()))) == identity
    with pytest.raises(InputError, match="encoding of a table"):
        TableEncoding.from_columns(["no JSON"])


def test_a_file_is_learnt_and_told(tmp_path, caplog):
    samples = load_samples(written(tmp_path, CSV), missing="indicator")
    np.testing.assert_array_equal(samples.x, ROWS)
    assert samples.encoding == ENCODING
    assert "'colour' (2)" in caplog.text
    assert "2 columns have missing values" in caplog.text
    assert load_samples(tmp_path / "t.csv", missing="median").encoding.indicated == ()
    plain = load_samples(written(tmp_path, "a,label\n1,0\n2,1\n", "plain.csv"))
    assert plain.encoding is None


def test_a_file_is_read_in_blocks(tmp_path, monkeypatch):
    text = "colour,a,label\n,1.5,0\n,2,0\nred,,0\nblue,4,1\nred,5,0\n"
    expected = load_samples(written(tmp_path, text), missing="median")
    assert expected.encoding.categories == (("blue", "red"), None)
    monkeypatch.setattr(csv_table, "_BLOCK", 2)
    samples = load_samples(tmp_path / "t.csv", missing="median")
    np.testing.assert_array_equal(samples.x, expected.x)
    assert samples.encoding == expected.encoding
    with pytest.raises(InputError, match=r"in column 'colour' .2 rows, the first in line 2"):
        load_samples(tmp_path / "t.csv")
    with pytest.raises(InputError, match=r"received 'x' in column 'a', line 6 .1 such rows"):
        load_samples(written(tmp_path, "a,label\n1,0\n2,0\n3,0\n4,1\nx,0\n"))


def test_later_files_follow_the_encoding(tmp_path):
    known = {"columns": ("a", "colour", "b"), "encoding": ENCODING}
    text = "label,b,colour,a\n0,7,red,1.5\n0,8,violet,\n"
    samples = load_samples(written(tmp_path, text), **known)
    np.testing.assert_array_equal(samples.x, [[1.5, 1, 7], [NAN, 2, 8]])
    assert samples.encoding == ENCODING
    rows = values(tmp_path / "t.csv", Identity("table", known["columns"], encoding=ENCODING), 3)
    np.testing.assert_array_equal(rows, samples.x)
    # A detector of plain numbers learns nothing from what it is judged on.
    written(tmp_path, "a,colour,b,label\n1,red,2,0\n")
    with pytest.raises(InputError, match="expected numbers, received 'red' in column 'colour'"):
        load_samples(tmp_path / "t.csv", columns=known["columns"], encoding=TableEncoding.of_numbers(3))


def test_a_gap_where_training_refused_them_is_a_line(tmp_path):
    strict = Identity("table", ("a", "colour"), encoding=TableEncoding((None, ("red",))))
    received = values(written(tmp_path, "colour,a\nred,1\n,2\nred,\ngrey,3\n"), strict, 2)
    np.testing.assert_array_equal([received[0], received[3]], [[1, 0], [3, 1]])
    assert "missing value in column 'colour'" in received[1]
    assert "line 3" in received[1]
    assert "missing value in column 'a'" in received[2]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (CSV, "missing values in column 'a' (1 rows, the first in line 3); fill or remove them, or train"),
        ("a,label\n1,0\n2,0\nx,1\n", "expected numbers, received 'x' in column 'a', line 4 (1 such rows)"),
        (
            "id,label\n" + "".join(f"part-{n},0\n" for n in range(100)) + "x,1\n",
            "received 101 different texts in column 'id'",
        ),
        ("a,b,label\n1,,0\n2,,1\n", "missing values in column 'b'"),
    ],
)
def test_refused_files(tmp_path, text, said):
    with pytest.raises(InputError) as error:
        load_samples(written(tmp_path, text))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_column_without_any_value_is_refused(tmp_path):
    with pytest.raises(InputError, match="received none in column 'b'"):
        load_samples(written(tmp_path, "a,b,label\n1,,0\n2,,1\n"), missing="median")


def test_rare_categories_are_one():
    texts = [f"c{n:02}" for n in range(40) for _ in range(50 if n < 32 else 1)]
    encoding = learnt([texts], "refuse", "x", None)
    assert encoding.categories == (tuple(f"c{n:02}" for n in range(32)),)
    assert encoding.encoded([["c31", "c39", "new"]]).ravel().tolist() == [31, 32, 32]


def test_archives_may_have_gaps(tmp_path):
    np.savez(tmp_path / "t.npz", X=np.array([[1, NAN], [2, 3]]), y=[0, 1])
    with pytest.raises(InputError, match="missing values"):
        load_samples(tmp_path / "t.npz")
    samples = load_samples(tmp_path / "t.npz", missing="indicator")
    assert samples.encoding == TableEncoding((None, None), "indicator", (1,))
    with pytest.raises(InputError, match="received images"):
        load_samples("digits", missing="median")
    with pytest.raises(InputError, match="refuse, median, indicator, received 'mean'"):
        load_samples(tmp_path / "t.npz", missing="mean")


def test_frames_as_files(tmp_path):
    pandas = pytest.importorskip("pandas", reason="pandas is an optional extra")
    expected = load_samples(written(tmp_path, CSV), missing="indicator")
    frame = pandas.read_csv(tmp_path / "t.csv", na_values="?")
    kinds = (
        frame,
        frame.convert_dtypes(),
        frame.astype({"colour": "category"}),
        frame.astype({"colour": "string", "b": "Int64"}),
        frame.astype(object),
        frame[["label", "b", "colour", "a"]],
    )
    for kind in kinds:
        samples = load_samples(kind, missing="indicator", columns=("a", "colour", "b"))
        np.testing.assert_array_equal(samples.x, ROWS)
        assert samples.encoding == expected.encoding
        features = kind[["colour", "b", "a"]]
        identity = Identity("table", ("a", "colour", "b"), encoding=ENCODING)
        np.testing.assert_array_equal(frame_rows(features, identity, 3, "x"), ROWS)
    assert table_encoding(frame[["a", "colour", "b"]], "indicator") == ENCODING
    with pytest.raises(InputError, match="missing values in column 'a'"):
        table_encoding(frame)


def test_categories_of_numbers_are_texts():
    pandas = pytest.importorskip("pandas", reason="pandas is an optional extra")
    frame = pandas.DataFrame({"code": pandas.Categorical([1, 2, 1]), "flag": [True, False, True]})
    encoding = table_encoding(frame)
    assert encoding.categories == (("1", "2"), None)
    identity = Identity("table", ("code", "flag"), encoding=encoding)
    later = pandas.DataFrame({"flag": [False, True], "code": [2.0, 7.0]})  # as a file with gaps is read
    assert frame_rows(later, identity, 2, "x").tolist() == [[1, 0], [2, 1]]


@pytest.mark.parametrize(
    "wrong", [{"categories": 3}, {"categories": (("a", "a"),)}, {"categories": (None,), "missing": "mean"}]
)
def test_encodings_that_cannot_be_meant(wrong):
    with pytest.raises(InputError):
        TableEncoding(**wrong)
