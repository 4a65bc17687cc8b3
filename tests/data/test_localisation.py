"""Pixel metrics of a source with masks, in the metrics of an evaluation."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from agad_tf.data.sources.load import load_samples
from agad_tf.data.splits.protocols import one_class_split
from agad_tf.errors import InputError
from agad_tf.layers import ImagePreprocessing
from agad_tf.training.evaluate import judge
from agad_tf.training.localisation import check_masks, pixel_report

SIDE = 12


def detector(error_of):
    """Something that explains like a detector: `error_of` maps images in [−1, 1] to error maps."""
    preprocess = ImagePreprocessing((2 * SIDE, 2 * SIDE))

    def explain(images):
        x = np.asarray(preprocess(images))
        return x, error_of(x[..., 0])

    def predict(images, verbose=0):
        return explain(images)[1].max(axis=(1, 2))

    return SimpleNamespace(
        preprocess=preprocess,
        explain=explain,
        anomaly_map=lambda images: explain(images)[1],
        predict=predict,
        score="reconstruction",
    )


@pytest.fixture
def spots(tmp_path):
    """MVTec layout: dark images; a bright spot on the anomalies, and masks of it but for the last."""
    rng = np.random.default_rng(0)
    for name in ("train/good", "test/good", "test/spot", "ground_truth/spot"):
        (tmp_path / name).mkdir(parents=True)
    for index in range(5):
        for part in ("train/good", "test/good"):
            image = rng.integers(0, 60, (SIDE, SIDE), dtype=np.uint8)
            Image.fromarray(image).save(tmp_path / part / f"{index}.png")
        image, mask = rng.integers(0, 60, (SIDE, SIDE), dtype=np.uint8), np.zeros((SIDE, SIDE), np.uint8)
        image[index + 1 : index + 5, 3:7], mask[index + 1 : index + 5, 3:7] = 250, 255
        Image.fromarray(image).save(tmp_path / "test/spot" / f"{index}.png")
        if index < 4:
            Image.fromarray(mask).save(tmp_path / "ground_truth/spot" / f"{index}_mask.png")
    samples = load_samples(tmp_path)
    return samples, one_class_split(samples, validation=0)


def test_maps_that_show_the_defect_are_told_from_maps_that_hide_it(spots):
    samples, split = spots
    good = pixel_report(detector(lambda x: x + 1), samples, split)
    bad = pixel_report(detector(lambda x: 1 - x), samples, split)
    assert good["n_masks"] == 4
    # Only the blurred rim of a resized spot can be confused with the background.
    assert good["pixel_auroc"] > 0.99
    assert good["pro"] > 0.95
    assert bad["pixel_auroc"] == pytest.approx(1 - good["pixel_auroc"], abs=1e-6)
    assert bad["pro"] < 0.05


def test_an_evaluation_has_them_where_there_are_masks(spots):
    samples, split = spots
    model = detector(lambda x: x + 1)
    report = judge(model, samples, split).metrics
    assert report["auroc"] == 1.0
    assert {"pixel_auroc", "pro", "n_masks"} <= set(report)
    no_masks = SimpleNamespace(x=samples.x, classes=samples.classes, masks=None)
    assert not {"pixel_auroc", "pro"} & set(judge(model, no_masks, split).metrics)


def test_a_mask_of_another_size(spots, tmp_path):
    samples, split = spots
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(tmp_path / "ground_truth/spot/0_mask.png")
    for use in (lambda: pixel_report(detector(lambda x: x + 1), samples, split),
                lambda: check_masks(samples, split, "stretch")):  # fmt: skip
        with pytest.raises(InputError, match="its image's size 12x12, received 3x4"):
            use()


def test_masks_of_images_that_were_resized_when_they_were_read(spots, tmp_path):
    image = Image.open(tmp_path / "test/spot/0.png").resize((3 * SIDE, 2 * SIDE))
    image.save(tmp_path / "test/spot/0.png")
    mask = Image.open(tmp_path / "ground_truth/spot/0_mask.png").resize((3 * SIDE, 2 * SIDE), Image.NEAREST)
    mask.save(tmp_path / "ground_truth/spot/0_mask.png")
    samples = load_samples(tmp_path, image_size=SIDE)
    split = one_class_split(samples, validation=0)
    check_masks(samples, split, "stretch")
    report = pixel_report(detector(lambda x: x + 1), samples, split)
    assert report["n_masks"] == 4
    assert report["pixel_auroc"] > 0.99


def test_empty_masks_are_told_and_count_for_nothing(spots, tmp_path, caplog):
    for index in range(4):
        Image.fromarray(np.zeros((SIDE, SIDE), np.uint8)).save(
            tmp_path / f"ground_truth/spot/{index}_mask.png"
        )
    samples, split = spots
    assert pixel_report(detector(lambda x: x + 1), samples, split) == {}
    check_masks(samples, split, "stretch")
    assert "4 of 5 anomalies in the test have an empty mask" in caplog.text
    assert "1 of 5 anomalies in the test have no mask" in caplog.text
