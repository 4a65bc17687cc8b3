"""A saved detector is loaded whatever was imported before, and what is none is one line."""

import subprocess
import sys

import keras
import numpy as np
import pytest

import agad_tf
from agad_tf.baselines import Autoencoder
from agad_tf.errors import InputError

ROWS = np.random.default_rng(0).normal(size=(40, 4))


def test_a_process_that_has_imported_nothing_else_loads_any_detector(tmp_path):
    model = Autoencoder((4,))
    model.compile()
    model.fit(ROWS, batch_size=20, verbose=0)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "rows.npy", ROWS)
    code = (
        "import sys, numpy as np, agad_tf\n"
        "assert 'tensorflow' not in sys.modules\n"
        "np.save('scores.npy', agad_tf.load_model('model.keras').predict(np.load('rows.npy'), verbose=0))"
    )
    environment = {"PYTHONPATH": ":".join(sys.path), "PATH": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "scores.npy"), model.predict(ROWS, verbose=0))


def test_what_is_no_detector_is_one_line(tmp_path):
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)]).save(tmp_path / "other.keras")
    (tmp_path / "damaged.keras").write_bytes((tmp_path / "other.keras").read_bytes()[:-300])
    (tmp_path / "notes.txt").write_text("no model")
    (tmp_path / "empty").mkdir()
    for name, words in (
        ("other.keras", r"other.keras: expected a detector of agad_tf, received a Sequential: take keras"),
        (
            "damaged.keras",
            r"damaged.keras: expected a saved detector, a .keras file, received some",
        ),
        ("notes.txt", r"notes.txt: expected a saved detector, a .keras file, received another"),
        ("missing.keras", r"missing.keras: .* received no such file: restore it, or save it"),
        ("empty", r"model.keras: .* received no such file"),
    ):
        with pytest.raises(InputError, match=words) as told:
            agad_tf.load_model(tmp_path / name)
        assert "\n" not in str(told.value)
