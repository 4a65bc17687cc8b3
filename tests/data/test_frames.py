"""Data frames of pandas: columns by name, whatever their order; what is no number is refused by name."""

import numpy as np
import pytest

from agad_tf.baselines import OneClassSVM
from agad_tf.data.sources.load import load_samples
from agad_tf.errors import InputError
from agad_tf.frames import frame_rows, is_frame
from agad_tf.identity import Identity

pandas = pytest.importorskip("pandas", reason="pandas is an optional extra")
KNOWN = Identity("table", ("a", "b"))
FRAME = pandas.DataFrame({"a": [1.5, 2.5, 3.5], "b": [4, 5, 6]})
ROWS = FRAME.to_numpy()


def rows(frame, identity=KNOWN):
    return frame_rows(frame, identity, 2, "x")


def test_what_is_a_frame():
    assert is_frame(FRAME)
    assert not any(map(is_frame, (ROWS, FRAME["a"], [[1, 2]], "a.csv", None)))


@pytest.mark.parametrize(
    "frame",
    [
        FRAME,
        FRAME[["b", "a"]],
        FRAME.assign(b=[True, False, True]).assign(b=FRAME["b"]),
        FRAME.convert_dtypes(),
        FRAME.astype({"b": "Int64"}),
        FRAME.astype(object),
    ],
)
def test_columns_by_name(frame):
    received = rows(frame)
    assert received.dtype == np.float64
    np.testing.assert_array_equal(received, ROWS)


def test_an_unnamed_index_column_is_left_out_and_told(caplog):
    frame = FRAME.copy()
    frame.insert(0, "Unnamed: 0", [0, 1, 2])
    np.testing.assert_array_equal(rows(frame), ROWS)
    assert "'Unnamed: 0'" in caplog.text


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (FRAME.assign(id=[1, 2, 3]), "unknown: 'id'"),
        (FRAME.rename(columns={"a": "p"}), "missing: 'a'; unknown: 'p'"),
        (FRAME.astype({"b": "category"}), "received category in column 'b'"),
        (FRAME.assign(b=["x", "y", "z"]), "in column 'b': encode it as numbers"),
        (FRAME.assign(b=pandas.to_datetime(["2024-01-01"] * 3)), "received datetime64"),
        (FRAME.assign(b=pandas.array([1, None, 3], "Int64")), "in column 'b' (1 rows, the first is row 1)"),
        (FRAME.assign(b=[1.0, np.nan, 3]), "missing values in column 'b'"),
        (pandas.concat([FRAME, FRAME[["a"]]], axis=1), "'a' twice"),
        (pandas.concat({"a": FRAME}, axis=1), "several levels"),
    ],
)  # fmt: skip
def test_refused_frames(frame, said):
    with pytest.raises(InputError) as error:
        rows(frame)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_frame_is_a_source_as_its_csv_file_is(tmp_path):
    frame = FRAME.assign(label=["good", "good", "crack"])[["label", "a", "b"]]
    frame.to_csv(tmp_path / "t.csv", index=False)
    for kind in (frame, frame.astype({"label": "category"}), frame.convert_dtypes()):
        samples, expected = load_samples(kind), load_samples(tmp_path / "t.csv")
        np.testing.assert_array_equal(samples.x, expected.x)
        np.testing.assert_array_equal(samples.classes, expected.classes)
        assert (samples.class_names, samples.feature_names) == (expected.class_names, ("a", "b"))
    turned = load_samples(frame, columns=("b", "a"))
    np.testing.assert_array_equal(turned.x, ROWS[:, ::-1])
    with pytest.raises(InputError, match="in column 'label' of row 1"):
        load_samples(frame.assign(label=["good", None, "crack"]))


def test_a_source_is_read_in_the_order_that_is_wanted(tmp_path):
    (tmp_path / "t.csv").write_text("b,label,a\n4,0,1.5\n5,0,2.5\n6,1,3.5\n")
    samples = load_samples(tmp_path / "t.csv", columns=("a", "b"))
    np.testing.assert_array_equal(samples.x, ROWS)
    (tmp_path / "t.csv").write_text("id,a,b,label\n1,2,3,0\n4,5,6,1\n")
    with pytest.raises(InputError, match="unknown: 'id'"):
        load_samples(tmp_path / "t.csv", columns=("a", "b"))
    (tmp_path / "t.csv").write_text("a,b,id\n1,2,3\n4,5,6\n")
    with pytest.raises(InputError, match="'id', of which none is called label"):
        load_samples(tmp_path / "t.csv", columns=("a", "b"))


def test_a_detector_learns_the_names_of_a_frame():
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame({"small": rng.normal(size=80), "large": rng.normal(1e4, 100, 80)})
    model = OneClassSVM((2,))
    model.fit(frame, verbose=0)
    assert model.identity.columns == ("small", "large")
    expected = model.predict(frame.to_numpy())
    np.testing.assert_array_equal(model.predict(frame[["large", "small"]]), expected)
    with pytest.raises(InputError, match="missing: 'small'; unknown: 'tiny'"):
        model.predict(frame.rename(columns={"small": "tiny"}))
