"""Which detector `--detector auto` takes, by the data and by the settings asked for."""

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from agad_tf.cli import main
from agad_tf.data.sources.load import is_table
from agad_tf.errors import InputError
from agad_tf.training import choice
from agad_tf.training.choice import choose_detector
from agad_tf.training.loading import default_image_size


@pytest.fixture
def sources(tmp_path):
    """Paths of sources by what they are."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "rows.npz", X=rng.normal(size=(9, 3)), y=np.zeros(9))
    np.savez(tmp_path / "images.npz", X=np.zeros((9, 8, 8), np.uint8), y=np.zeros(9))
    (tmp_path / "rows.csv").write_text("a,b,label\n1,2,0\n3,4,1\n")
    (tmp_path / "list.csv").write_text("path,label\nx.png,0\n")
    (tmp_path / "damaged.npz").write_bytes(b"PK\x03\x04 no archive")
    (tmp_path / "photos" / "normal").mkdir(parents=True)
    Image.new("L", (8, 8)).save(tmp_path / "photos" / "normal" / "a.png")
    return tmp_path


def test_tables_and_images_are_told_apart(sources):
    tables = {
        name
        for name in ("rows.npz", "images.npz", "rows.csv", "list.csv", "damaged.npz", "photos")
        if is_table(sources / name)
    }
    assert tables == {"rows.npz", "rows.csv"}
    assert not is_table("digits")
    assert not is_table("photos:plate")
    with pytest.raises(InputError, match="existing file or folder"):
        is_table(sources / "nothing.csv")


def test_a_table_gets_aa_bigan(sources):
    assert choose_detector(sources / "rows.csv") == ("aa_bigan", "the data are a table")


def test_images_get_features_where_they_are_installed(monkeypatch):
    monkeypatch.setattr(choice, "weights_file", lambda: None)
    assert choose_detector("digits")[0] == "features"

    def missing():
        raise InputError("pip install it")

    monkeypatch.setattr(choice, "weights_file", missing)
    name, reason = choose_detector("digits")
    assert name == "agad"
    assert "agad-tf[features]" in reason


def test_settings_of_one_detector_choose_it():
    assert choose_detector("digits", ["source", "bn_strategy", "seed"])[0] == "agad"
    assert choose_detector("digits", ["model.latent_dim"])[0] == "aa_bigan"
    assert choose_detector("digits", ["no_such_setting"])[0] == "agad"


def test_the_command_says_what_it_chose(sources, monkeypatch):
    told = []

    def stop(configuration, path, progress, **how):
        told.append((configuration["detector"], how["why"]))
        return {}

    monkeypatch.setattr("agad_tf.training.train.train", stop)
    monkeypatch.setattr("agad_tf.commands.training.metrics_text", str)
    arguments = ["train", "--data", str(sources / "rows.csv"), "--out", str(sources / "run")]
    for more in ([], ["--detector", "features"], ["--set", "latent_dim=3"]):
        result = CliRunner().invoke(main, [*arguments, *more])
        assert result.exit_code == 0, result.output
    assert told == [
        ("aa_bigan", "--detector aa_bigan: the data are a table"),
        ("features", None),
        ("aa_bigan", "--detector aa_bigan: the data are a table"),
    ]


@pytest.mark.parametrize(
    ("stored", "size"),
    [
        ((480, 640), (240, 320)),
        ((1080, 1920), (208, 368)),
        ((600, 600), (272, 272)),
        ((200, 200), (192, 192)),
        ((28, 28), (96, 96)),
        ((2000, 100), (512, 96)),
    ],
)
def test_features_see_photographs_in_proportion(stored, size):
    assert default_image_size(stored, "features") == size
