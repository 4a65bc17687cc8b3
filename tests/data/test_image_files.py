"""Image files and folders: every colour mode to defined pixels, and the one line a bad file gets."""

import numpy as np
import pytest
from PIL import Image

from agad_tf.data.sources.images import decode_all, set_channels
from agad_tf.data.sources.load import list_images, load_samples, read_image
from agad_tf.errors import InputError

RNG = np.random.default_rng(0)


def pixels(count, size=6, channels=None):
    shape = (count, size, size) if channels is None else (count, size, size, channels)
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def write(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def refused(message, *args, **kwargs):
    with pytest.raises(InputError, match=message) as error:
        load_samples(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


# --- image files -----------------------------------------------------------------------------------


def test_colour_modes_of_files(tmp_path):
    grey, colour = pixels(1)[0], pixels(1, channels=3)[0]
    np.testing.assert_array_equal(read_image(write(tmp_path / "l.png", grey))[..., 0], grey)
    np.testing.assert_array_equal(read_image(write(tmp_path / "l.bmp", grey))[..., 0], grey)
    np.testing.assert_array_equal(read_image(write(tmp_path / "rgb.bmp", colour)), colour)
    assert read_image(write(tmp_path / "l.jpg", grey)).shape == (6, 6, 1)
    assert read_image(write(tmp_path / "rgb.JPG", colour)).shape == (6, 6, 3)
    Image.fromarray(colour).convert("CMYK").save(tmp_path / "cmyk.jpg")
    assert read_image(tmp_path / "cmyk.jpg").shape == (6, 6, 3)
    Image.fromarray(grey > 99).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(read_image(tmp_path / "bits.png")[..., 0], (grey > 99) * 255)
    # Four colours in a palette come back exactly.
    few = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 8, 7]], np.uint8)[grey % 4]
    palette = Image.fromarray(few).quantize(4, dither=Image.Dither.NONE)
    palette.save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_image(tmp_path / "p.png"), few)


def test_sixteen_bit_grey_keeps_the_high_byte(tmp_path):
    values = np.array([[0, 255, 256, 65535], [32768, 32767, 1000, 40000]], np.uint16)
    np.testing.assert_array_equal(read_image(write(tmp_path / "d.png", values))[..., 0], values // 256)


def test_transparency_is_composited_over_black(tmp_path):
    colour = pixels(1, channels=4)[0]
    colour[0, 0] = (200, 100, 50, 0)
    colour[0, 1] = (200, 100, 50, 255)
    read = read_image(write(tmp_path / "rgba.png", colour))
    expected = colour[..., :3] * (colour[..., 3:] / 255)
    assert read.shape == (6, 6, 3)
    assert np.abs(read - expected).max() <= 1
    assert read[0, 0].tolist() == [0, 0, 0]
    assert read[0, 1].tolist() == [200, 100, 50]
    grey = read_image(write(tmp_path / "la.png", colour[..., 2:]))
    assert grey.shape == (6, 6, 1)
    assert np.abs(grey[..., 0] - colour[..., 2] * (colour[..., 3] / 255)).max() <= 1


def test_exif_rotation_is_applied(tmp_path):
    image = np.zeros((8, 16), np.uint8)
    image[:, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to view
    for name in ("r.jpg", "r.png"):
        read = read_image(write(tmp_path / name, image, exif=exif))[..., 0]
        assert read.shape == (16, 8)
        assert read[:7].min() > 240
        assert read[9:].max() < 15


def test_channels_argument(tmp_path):
    colour = write(tmp_path / "c.png", pixels(1, channels=3)[0])
    np.testing.assert_array_equal(read_image(colour, 1)[..., 0], np.asarray(Image.open(colour).convert("L")))
    grey = write(tmp_path / "g.png", pixels(1)[0])
    np.testing.assert_array_equal(read_image(grey, 3), np.repeat(read_image(grey), 3, axis=-1))
    with pytest.raises(InputError, match="channels 1 or 3, received 4"):
        read_image(grey, 4)
    refused("channels 1 or 3, received 2", "digits", channels=2)
    refused("image size", "digits", image_size=0)


@pytest.mark.parametrize("name", ["missing.png", "text.png", "half.jpg", "empty.bmp", "half.png"])
def test_unreadable_image_is_named(tmp_path, name):
    if name == "text.png":
        (tmp_path / name).write_text("no image")
    elif name == "empty.bmp":
        (tmp_path / name).touch()
    elif name.startswith("half"):
        content = write(tmp_path / name, pixels(1, 40, 3)[0]).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=f"{name}: expected a readable JPEG, PNG or BMP") as error:
        read_image(tmp_path / name)
    assert "\n" not in str(error.value)


# --- folders ---------------------------------------------------------------------------------------


def test_folder_of_normal_and_anomaly(tmp_path):
    images = pixels(5)
    for number, image in enumerate(images):
        write(tmp_path / ("normal" if number < 3 else "anomaly") / f"{number}.png", image)
    (tmp_path / "normal" / ".hidden.png").write_text("x")
    (tmp_path / "normal" / "notes.txt").write_text("x")
    samples = load_samples(tmp_path)
    assert (samples.class_names, samples.normal_classes) == (("anomaly", "normal"), (1,))
    assert samples.classes.tolist() == [0, 0, 1, 1, 1]
    np.testing.assert_array_equal(samples.x[..., 0], images[[3, 4, 0, 1, 2]])
    assert samples.paths[0] == str(tmp_path / "anomaly" / "3.png")
    assert samples.part is None
    assert samples.name == tmp_path.name


def test_folder_with_parts(tmp_path):
    for name in (
        "train/good/a",
        "train/good/b",
        "test/good/c",
        "test/scratch/d",
        "val/good/e",
        "ground_truth/scratch/d",
    ):
        write(tmp_path / f"{name}.png", pixels(1)[0])
    samples = load_samples(tmp_path)
    assert (samples.class_names, samples.normal_classes) == (("good", "scratch"), (0,))
    assert sorted(zip(samples.part, samples.classes, strict=True)) == [
        ("test", 0), ("test", 1), ("train", 0), ("train", 0), ("validation", 0),
    ]  # fmt: skip


def test_folder_with_one_class_and_with_an_empty_class(tmp_path, caplog):
    write(tmp_path / "normal" / "deep" / "a.png", pixels(1)[0])
    assert load_samples(tmp_path).class_names == ("normal",)
    (tmp_path / "anomaly").mkdir()
    samples = load_samples(tmp_path)
    assert (samples.class_names, samples.classes.tolist()) == (("normal",), [0])
    assert "1 a folder without images, e.g. " in caplog.text
    (tmp_path / "normal" / "b.tif").write_text("x")
    assert len(list_images(tmp_path)) == 1
    assert "b.tif" in caplog.text


def test_folder_of_mixed_sizes_and_channels(tmp_path):
    write(tmp_path / "normal" / "a.png", pixels(1, 6)[0])
    write(tmp_path / "normal" / "b.png", pixels(1, 6, 3)[0])
    grey = load_samples(tmp_path, channels=1)
    assert grey.x.shape == (2, 6, 6, 1)
    colour = load_samples(tmp_path)
    assert colour.x.shape == (2, 6, 6, 3)
    np.testing.assert_array_equal(colour.x[0], np.repeat(grey.x[0], 3, axis=-1))
    write(tmp_path / "normal" / "c.png", pixels(1, 9)[0])
    message = refused("c.png: expected 6 x 6 .* received 9 x 9; pass an image size", tmp_path)
    assert "a.png" in message
    assert load_samples(tmp_path, image_size=(5, 7)).x.shape == (3, 5, 7, 3)


def test_refused_folders(tmp_path):
    refused("received an empty folder", tmp_path)
    write(tmp_path / "a.png", pixels(1)[0])
    refused("received 1 images directly in it", tmp_path)
    (tmp_path / "normal").mkdir()
    refused("images in its class folders, received none", tmp_path)
    (tmp_path / "normal" / "b.jpg").write_text("x")
    refused("b.jpg: expected a readable", tmp_path)


def test_progress_only_for_many_images(capsys):
    image = pixels(1, 2, 1)[0]
    decode_all(1000, lambda index: image, str, None, None)
    assert capsys.readouterr().err == ""
    out = decode_all(1001, lambda index: image + np.uint8(index % 7), str, None, None)
    assert "reading images" in capsys.readouterr().err
    np.testing.assert_array_equal(out[:, 0, 0, 0], image[0, 0, 0] + (np.arange(1001) % 7).astype(np.uint8))


def test_grey_is_luma():
    np.testing.assert_array_equal(
        set_channels(np.uint8([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]), 1)[0, :, 0], [76, 150, 29]
    )
