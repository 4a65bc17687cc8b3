"""Tables on a server: the client knows the names of the columns, and the digits of rows arrive."""

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from loopback_server import Models, loopback

from agad_tf import AABiGAN
from agad_tf.cli import main
from agad_tf.errors import InputError
from agad_tf.export.saved_model import export_saved_model
from agad_tf.frames import table_encoding
from agad_tf.serving import Client

pandas = pytest.importorskip("pandas", reason="pandas is an optional extra")


@pytest.fixture(scope="module")
def trained():
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame({"northing": 5_400_123 + rng.normal(0, 0.04, 64), "v": rng.normal(size=64)})
    keras.utils.set_random_seed(0)
    model = AABiGAN((2,), backbone="mlp")
    model.fit(frame, batch_size=32, epochs=1, verbose=0)
    return model, frame


@pytest.fixture(scope="module")
def server(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / "rows"
    export_saved_model(trained[0], folder)
    with loopback(Models({"rows": folder})) as server:
        yield server


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_columns_by_name_and_rows_in_float64(server, scheme, trained):
    model, frame = trained
    expected = model.predict(frame, verbose=0)
    with Client(server.url(scheme), "rows", timeout=20) as client:
        assert client.identity.columns == ("northing", "v")
        for samples in (frame, frame[["v", "northing"]], frame.to_numpy()):
            np.testing.assert_allclose(client.score(samples)["score"], expected, rtol=1e-4, atol=1e-5)
        with pytest.raises(InputError, match="missing: 'v'; unknown: 'w'"):
            client.score(frame.rename(columns={"v": "w"}))


def test_the_command_matches_names_on_a_server(server, trained, tmp_path):
    frame = trained[1][:4]
    frame.to_csv(tmp_path / "same.csv", index=False)
    frame[["v", "northing"]].to_csv(tmp_path / "turned.csv", index=False)
    arguments = ["score", "--server", f"{server.url('http')}/rows"]
    said = CliRunner().invoke(main, [*arguments, str(tmp_path / "same.csv"), str(tmp_path / "turned.csv")])
    assert said.exit_code == 0, said.output
    rows = [line.split(",")[2] for line in said.stdout.splitlines()[1:]]
    assert rows[:4] == rows[4:]


def test_mixed_tables_on_a_server(tmp_path):
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame({"a": rng.normal(size=64), "colour": rng.choice(["red", "blue"], 64)})
    frame.loc[::5, "a"] = np.nan
    keras.utils.set_random_seed(0)
    model = AABiGAN((2,), encoding=table_encoding(frame, "indicator"))
    model.fit(frame, batch_size=32, epochs=1, verbose=0)
    frame.loc[1, "colour"] = "violet"
    expected = model.predict(frame, verbose=0)
    export_saved_model(model, tmp_path / "rows")
    with loopback(Models({"rows": tmp_path / "rows"})) as server:
        for scheme in ("http", "grpc"):
            with Client(server.url(scheme), "rows", timeout=20) as client:
                assert client.identity.encoding == model.encoding
                received = client.score(frame[["colour", "a"]])["score"]
                np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-5)
                with pytest.raises(InputError, match="in column 1"):
                    client.score(np.array([[0.0, 5.0]]))
        frame[["colour", "a"]].to_csv(tmp_path / "t.csv", index=False)
        said = CliRunner().invoke(
            main, ["score", "--server", f"{server.url('http')}/rows", str(tmp_path / "t.csv")]
        )
    assert said.exit_code == 0, said.output
    scores = [float(line.split(",")[2]) for line in said.stdout.splitlines()[1:]]
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)
