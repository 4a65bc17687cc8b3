"""Sources: what each layout reads to, and the one line each kind of bad input gets."""

import io
import struct
import subprocess
import sys

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from agad_tf.data.sources.load import load_samples
from agad_tf.errors import InputError

RNG = np.random.default_rng(0)


def pixels(count, size=6, channels=None):
    shape = (count, size, size) if channels is None else (count, size, size, channels)
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def refused(message, *args, **kwargs):
    with pytest.raises(InputError, match=message) as error:
        load_samples(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_no_tensorflow_is_loaded():
    code = (
        "import sys, agad_tf.data.sources.load, agad_tf.data.splits.protocols, agad_tf.edge;"
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_digits():
    samples = load_samples("digits")
    assert samples.x.shape == (1797, 8, 8, 1)
    assert samples.x.dtype == np.uint8
    assert samples.x.max() == 255
    assert samples.class_names == tuple("0123456789")
    assert samples.part is None
    assert samples.normal_classes is None
    assert load_samples("digits", image_size=16, channels=3).x.shape == (1797, 16, 16, 3)


# --- .npz ------------------------------------------------------------------------------------------


def npz(tmp_path, **arrays):
    np.savez(tmp_path / "set.npz", **arrays)
    return tmp_path / "set.npz"


def test_keras_layout(tmp_path):
    train, test = pixels(6), pixels(4)
    samples = load_samples(
        npz(tmp_path, x_train=train, y_train=[0, 1, 2] * 2, x_test=test, y_test=[[2], [1], [0], [0]])
    )
    np.testing.assert_array_equal(samples.x[..., 0], np.concatenate([train, test]))
    assert samples.classes.tolist() == [0, 1, 2, 0, 1, 2, 2, 1, 0, 0]
    assert samples.classes.dtype == np.int64
    assert samples.part.tolist() == ["train"] * 6 + ["test"] * 4
    assert (samples.class_names, samples.normal_classes, samples.name) == (("0", "1", "2"), None, "set")


def test_medmnist_layout_with_validation(tmp_path):
    arrays = {}
    for part, count in (("train", 5), ("val", 3), ("test", 4)):
        arrays |= {
            f"{part}_images": pixels(count, channels=3),
            f"{part}_labels": np.arange(count)[:, None] % 2,
        }
    samples = load_samples(npz(tmp_path, **arrays))
    assert samples.x.shape == (12, 6, 6, 3)
    assert samples.part.tolist() == ["train"] * 5 + ["validation"] * 3 + ["test"] * 4
    assert samples.normal_classes is None  # images labelled 0 and 1 do not say which is normal


def packed(images, quality=95):
    files = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=quality)
        files.append(buffer.getvalue())
    offsets = np.cumsum([0, *(len(file) for file in files)])
    return np.frombuffer(b"".join(files), np.uint8), offsets


def test_packed_jpeg_layout_prefers_coarse_labels(tmp_path):
    smooth = np.broadcast_to(np.arange(32, dtype=np.uint8)[:, None, None] * 6, (32, 32, 3))
    images = [np.ascontiguousarray(smooth), np.ascontiguousarray(255 - smooth)]
    data, offsets = packed(images)
    arrays = dict(train_bytes=data, train_offsets=offsets, y_train=[3, 1], class_names=list("abcd"))
    arrays |= dict(test_bytes=data, test_offsets=offsets, y_test=[1, 3])
    samples = load_samples(npz(tmp_path, **arrays))
    assert samples.x.shape == (4, 32, 32, 3)
    assert np.abs(samples.x[0].astype(int) - images[0]).max() < 8
    assert np.abs(samples.x[3].astype(int) - images[1]).max() < 8
    assert (samples.classes.tolist(), samples.class_names) == ([3, 1, 1, 3], tuple("abcd"))
    arrays |= dict(y_coarse_train=[0, 1], y_coarse_test=[1, 1], coarse_names=["land", "sea"])
    samples = load_samples(npz(tmp_path, **arrays))
    assert (samples.classes.tolist(), samples.class_names) == ([0, 1, 1, 1], ("land", "sea"))
    arrays["train_offsets"] = offsets + 1
    refused("'train_offsets'.*increasing offsets", npz(tmp_path, **arrays))
    arrays["train_offsets"] = offsets
    arrays["train_bytes"] = np.where(np.arange(len(data)) < offsets[1], 0, data)
    refused("train image 0: expected a readable", npz(tmp_path, **arrays))


def test_table_layout_names_its_normal_class(tmp_path):
    x = RNG.normal(size=(10, 3))
    samples = load_samples(npz(tmp_path, X=x, y=np.arange(10) % 2, feature_names=["a", "b", "c"]))
    np.testing.assert_array_equal(samples.x, x)
    assert (samples.class_names, samples.normal_classes) == (("normal", "anomaly"), (0,))
    assert samples.feature_names == ("a", "b", "c")
    assert load_samples(npz(tmp_path, X=x, y=np.zeros(10, int))).class_names == ("normal", "anomaly")
    several = load_samples(npz(tmp_path, x=x, y=["good", "bad", "ugly", "good", "bad"] * 2))
    assert (several.class_names, several.normal_classes) == (("bad", "good", "ugly"), (1,))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_float_images_in_unit_range_become_uint8(tmp_path, dtype):
    images = pixels(5)
    samples = load_samples(npz(tmp_path, x=(images / 255).astype(dtype), y=np.zeros(5, int)))
    np.testing.assert_array_equal(samples.x[..., 0], images)


def test_integer_and_boolean_images(tmp_path):
    images = pixels(3)
    np.testing.assert_array_equal(
        load_samples(npz(tmp_path, x=images.astype(np.int64), y=[0, 1, 2])).x[..., 0], images
    )
    np.testing.assert_array_equal(
        load_samples(npz(tmp_path, x=images > 99, y=[0, 1, 2])).x[..., 0], (images > 99) * 255
    )


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.full((3, 4, 4), 256), "pixels from 0 to 255, received 256 to 256"),
        (np.full((3, 4, 4), -0.5), r"in \[0, 1\], received -0.5 to -0.5"),
        (np.full((3, 4, 4), 200.0), r"in \[0, 1\], received 200 to 200"),
        (np.full((3, 4, 4), "a"), "received dtype <U1"),
        (np.zeros((3, 4, 4, 2)), "channels last"),
        (np.zeros((3, 0, 4)), "received shape"),
        (np.array([[[0.0, np.nan]], [[0, 0]], [[0, np.inf]]]), "array 'x'.*NaN or infinity in 2 of 3 images"),
    ],
)
def test_refused_images(tmp_path, images, message):
    refused(message, npz(tmp_path, x=images, y=[0, 1, 2]))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1], "expected 3 labels for 3 rows, received 2"),
        (np.eye(3, dtype=int), "not one-hot"),
        ([0, np.nan, 1], "received nan in row 1"),
        ([0, 0.5, 1], "received 0.5 in row 1"),
        (np.array([b"a", b"b", b"c"]), "integers or strings"),
    ],
)
def test_refused_labels(tmp_path, labels, message):
    refused(message, npz(tmp_path, x=pixels(3), y=labels))


def test_refused_archives(tmp_path):
    assert "received a, b" in refused("x_train, y_train, x_test, y_test", npz(tmp_path, a=[1], b=[2]))
    refused("array 'y'.*without pickle", npz(tmp_path, x=pixels(3), y=np.array([0, 1, None], dtype=object)))
    refused(
        "labels from 0 to 1, .* received labels from 0 to 2",
        npz(tmp_path, x=pixels(3), y=[0, 1, 2], class_names=list("ab")),
    )
    refused("at least one row", npz(tmp_path, x=np.zeros((0, 4, 4), np.uint8), y=np.zeros(0, int)))
    mixed = dict(x_train=pixels(2, 6), y_train=[0, 1], x_test=pixels(2, 5), y_test=[0, 1])
    refused(r"'x_test'.*rows of shape \(6, 6, 1\)", npz(tmp_path, **mixed))
    assert load_samples(npz(tmp_path, **mixed), image_size=4).x.shape == (4, 4, 4, 1)
    refused("numbers and text", npz(tmp_path, **(mixed | dict(x_test=pixels(2, 6), y_test=["a", "b"]))))
    (tmp_path / "text.npz").write_text("no archive")
    refused("expected an .npz archive", tmp_path / "text.npz")
    whole = npz(tmp_path, x=pixels(30), y=np.arange(30)).read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    refused("expected an .npz archive", tmp_path / "half.npz")
    np.save(tmp_path / "single.npy", pixels(3))
    (tmp_path / "single.npy").rename(tmp_path / "single.npz")
    refused("received a single array", tmp_path / "single.npz")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.nan, r"missing values \(NaN\) in column {} \(2 rows"),
        (np.inf, "infinite values in column {} "),
        (1e300, "infinite"),
    ],
)
def test_refused_table_values(tmp_path, bad, message):
    x = RNG.normal(size=(10, 3))
    x[[2, 5], 1] = bad
    refused(message.format("1"), npz(tmp_path, X=x, y=np.zeros(10, int)))
    refused(message.format("'b'"), npz(tmp_path, X=x, y=np.zeros(10, int), feature_names=list("abc")))


# --- .csv and .mat ---------------------------------------------------------------------------------


def table(tmp_path, text, **options):
    (tmp_path / "t.csv").write_text(text, encoding=options.pop("encoding", "utf-8"))
    return load_samples(tmp_path / "t.csv", **options)


def test_csv_with_header(tmp_path):
    samples = table(tmp_path, "a,Label,b\n1,0,2\n3,1,4.5\n\n")
    np.testing.assert_array_equal(samples.x, np.float32([[1, 2], [3, 4.5]]))
    assert (samples.feature_names, samples.classes.tolist(), samples.normal_classes) == (
        ("a", "b"),
        [0, 1],
        (0,),
    )
    named = table(tmp_path, "kind;label;b\ngood;0;2\nscratch;1;4\ndent;1;5\n", label_column="kind")
    assert (named.class_names, named.normal_classes) == (("dent", "good", "scratch"), (1,))
    assert named.x.tolist() == [[0, 2], [1, 4], [1, 5]]
    assert table(tmp_path, "a\tb\n1\t0\n2\t1\n", encoding="utf-8-sig").feature_names == ("a",)


def test_csv_without_header(tmp_path):
    samples = table(tmp_path, "1,2,0\n3,4,1\n")
    assert (samples.x.tolist(), samples.classes.tolist(), samples.feature_names) == (
        [[1, 2], [3, 4]],
        [0, 1],
        None,
    )
    assert table(tmp_path, "1,2,normal\n3,4,odd\n").class_names == ("normal", "odd")
    assert table(tmp_path, "1,2,5\n0,4,6\n", label_column=0).classes.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (
            "a,colour,y\n1,2,0\n1,red,0\n2,blue,1\n3,4,1\n",
            {},
            "received 'red' in column 'colour', line 3 .2 such rows",
        ),
        ("1,2,0\n1,red,1\n", {}, "received 'red' in column 1, line 2"),
        ("a,b,y\n1,2,0\n,2,1\n?,3,1\n", {}, "missing values in column 'a' .2 rows, the first in line 3"),
        ("a,b,y\n1,2,0\n1,nan,1\n", {}, "missing values in column 'b' .1 rows, the first in line 3"),
        ("a,b,y\n1,2,0\n1,inf,1\n", {}, "infinite values in column 'b'"),
        ("a,b,y\n1,2,0\n1,2,\n", {}, "label in every row, received none in column 'y' of line 3"),
        ("a,b,y\n1,2,0.5\n", {}, "column 'y': expected whole numbers"),
        ("a,b,y\n1,2,0\n1,2\n", {}, "line 3: expected 3 cells .* received 2"),
        ("a,b,y\n", {}, "expected rows under the header"),
        ("", {}, "an empty file"),
        ("1\n2\n", {}, "received one column"),
        ("a,b,y\n1,2,0\n", {"label_column": "z"}, "label column 'z', received the columns 'a', 'b', 'y'"),
        (
            "a,class,label\n1,0,0\n2,1,1\n",
            {},
            "one label column, received class and label; remove what tells",
        ),
        ("1,2,0\n", {"label_column": "z"}, "no header"),
        ("1,2,0\n", {"label_column": 3}, "label column from 0 to 2, received 3"),
        ("a,b,y\né,2,0\n", {"encoding": "latin-1"}, "UTF-8"),
    ],
)
def test_refused_csv(tmp_path, text, options, message):
    with pytest.raises(InputError, match=message) as error:
        table(tmp_path, text, **options)
    assert "\n" not in str(error.value)


def test_mat_files_of_both_kinds(tmp_path):
    x, y = RNG.normal(size=(8, 3)), np.arange(8)[:, None] % 2
    savemat(tmp_path / "old.mat", {"X": x, "y": y})
    with h5py.File(tmp_path / "new.mat", "w", userblock_size=512) as file:
        file["X"], file["y"] = x.T, y.T.astype(float)
    # What MATLAB writes in front of the HDF5 part: text, subsystem offset, version 2.0, byte order.
    with (tmp_path / "new.mat").open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(116) + bytes(8) + struct.pack("<H", 0x0200) + b"IM")
    for name in ("old.mat", "new.mat"):
        samples = load_samples(tmp_path / name)
        np.testing.assert_array_equal(samples.x, x)
        assert (samples.classes.tolist(), samples.normal_classes) == ([0, 1] * 4, (0,))
    savemat(tmp_path / "other.mat", {"data": x})
    refused("arrays X and y, received data", tmp_path / "other.mat")
    (tmp_path / "no.mat").write_bytes(b"text" * 100)
    refused("expected a MATLAB", tmp_path / "no.mat")
    whole = (tmp_path / "old.mat").read_bytes()
    for number, damaged in enumerate((b"", whole[:200], whole[:150] + bytes(40) + whole[190:])):
        (tmp_path / f"damaged{number}.mat").write_bytes(damaged)
        refused("expected", tmp_path / f"damaged{number}.mat")


def test_where_files_are_looked_for(tmp_path, monkeypatch):
    monkeypatch.delenv("AGAD_TF_DATA", raising=False)
    assert "set AGAD_TF_DATA" in refused("found none of: nowhere", "nowhere")
    (tmp_path / "images").mkdir()
    np.savez(tmp_path / "images" / "some.npz", x=pixels(2), y=[0, 1])
    monkeypatch.setenv("AGAD_TF_DATA", str(tmp_path))
    for spec in ("some", "some.npz", "images/some", "images/some.npz"):
        assert load_samples(spec).name == "some"
    assert str(tmp_path / "nowhere.npz") in refused("found none of: nowhere", "nowhere")
    (tmp_path / "file.xyz").touch()
    refused(r"ending in .npz, .csv, .mat, received '.xyz'", tmp_path / "file.xyz")


def test_a_guessed_label_column_is_named(tmp_path, caplog):
    table = tmp_path / "a.csv"
    table.write_text("width,height\n1,0\n2,0\n3,1\n")
    samples = load_samples(table)
    assert samples.feature_names == ("width",)
    assert "the last one, 'height', is taken as the label" in caplog.text
    caplog.clear()
    load_samples(table, label_column="height")
    table.write_text("width,label\n1,0\n2,0\n3,1\n")
    load_samples(table)
    assert not caplog.text
