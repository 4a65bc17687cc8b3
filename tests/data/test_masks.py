"""What counts as a defect in a mask, whatever its file looks like."""

import numpy as np
import pytest
from PIL import Image

from agad_tf.data.samples import Samples
from agad_tf.data.splits.split import Split
from agad_tf.pixels import read_mask
from agad_tf.training.localisation import _mask

DEFECT = np.zeros((8, 8), bool)
DEFECT[2:5, 3:7] = True


def colour(value):
    return np.where(DEFECT[..., None], np.uint8(value), np.uint8(0))


def palette(path):
    image = Image.fromarray(DEFECT.astype(np.uint8), "P")
    image.putpalette([0, 0, 0, 1, 0, 0])  # the entry of the defect is all but black
    image.save(path)


def transparent(path):
    alpha = np.where(DEFECT, np.uint8(255), np.uint8(0))
    Image.fromarray(np.dstack([np.full((8, 8, 3), 255, np.uint8), alpha]), "RGBA").save(path)


@pytest.mark.parametrize(
    "save",
    [
        lambda path: Image.fromarray(DEFECT.astype(np.uint8) * 255).save(path),
        lambda path: Image.fromarray(DEFECT.astype(np.uint8)).save(path),
        lambda path: Image.fromarray(DEFECT.astype(np.uint16)).save(path),
        lambda path: Image.fromarray(DEFECT.astype(np.uint16) * 300).save(path),
        lambda path: Image.fromarray(colour((0, 0, 1))).save(path),
        lambda path: Image.fromarray(colour((128, 0, 0))).save(path),
        lambda path: Image.fromarray(DEFECT).save(path),
        palette,
        transparent,
    ],
    ids=["255", "8 bit id", "16 bit id", "16 bit 300", "blue id", "red", "1 bit", "palette", "transparent"],
)
def test_any_number_but_0_is_a_defect(tmp_path, save):
    save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), DEFECT)


def test_jpeg_masks_are_cut_at_half(tmp_path):
    defect = np.kron(DEFECT, np.ones((6, 6), bool))
    Image.fromarray(defect.astype(np.uint8) * 255).save(tmp_path / "m.jpg", quality=50)
    with Image.open(tmp_path / "m.jpg") as image:
        assert ((np.asarray(image) > 0) != defect).any()  # traces of compression around the defect
    np.testing.assert_array_equal(read_mask(tmp_path / "m.jpg"), defect)


def test_a_soft_edge_belongs_to_the_defect(tmp_path):
    soft = DEFECT.astype(np.uint8) * 255
    soft[1, 3:7] = 40
    Image.fromarray(soft).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), soft > 0)


def test_the_masks_of_one_folder_are_joined(tmp_path):
    for index, rows in enumerate((slice(0, 2), slice(5, 6))):
        one = np.zeros((8, 8), np.uint8)
        one[rows] = index + 1
        (tmp_path / "000").mkdir(exist_ok=True)
        Image.fromarray(one).save(tmp_path / "000" / f"{index}.png")
    samples = Samples(
        "set", np.zeros((1, 8, 8, 1), np.uint8), np.array([0]), ("hole",), masks=(str(tmp_path / "000"),)
    )
    joined = _mask(samples, 0, "stretch")[..., 0]
    assert np.flatnonzero(joined.any(axis=1)).tolist() == [0, 1, 5]
    assert set(np.unique(joined)) == {0, 255}
    assert Split(*[[]] * 6).labelled("test")[0].size == 0
