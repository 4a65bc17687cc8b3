"""The server's configuration files: what the server would parse, and that they fit each other."""

import re
from pathlib import Path

import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from tensorflow_serving.config import model_server_config_pb2

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "serving"

# Messages of the server that its Python package lacks: name to (field, number, type). `value` wraps a number.
MESSAGES = {
    "Int64Value": [("value", 1, "int64")],
    "BoolValue": [("value", 1, "bool")],
    "BatchingParameters": [
        ("max_batch_size", 1, "Int64Value"),
        ("batch_timeout_micros", 2, "Int64Value"),
        ("max_enqueued_batches", 3, "Int64Value"),
        ("num_batch_threads", 4, "Int64Value"),
        ("enable_large_batch_splitting", 8, "BoolValue"),
        ("max_execution_batch_size", 9, "Int64Value"),
    ],
    "PrometheusConfig": [("enable", 1, "bool"), ("path", 2, "string")],
    "MonitoringConfig": [("prometheus_config", 1, "PrometheusConfig")],
}


def message(name):
    """An empty message of the server's."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="server.proto", package="server", syntax="proto3")
    for message_name, fields in MESSAGES.items():
        described = file.message_type.add(name=message_name)
        for field, number, kind in fields:
            if kind in MESSAGES:
                typed = {"type": kinds.TYPE_MESSAGE, "type_name": f".server.{kind}"}
            else:
                typed = {"type": getattr(kinds, f"TYPE_{kind.upper()}")}
            described.field.add(name=field, number=number, label=kinds.LABEL_OPTIONAL, **typed)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"server.{name}"))()


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((FOLDER / "docker-compose.yml").read_text())["services"]


def test_models():
    config = model_server_config_pb2.ModelServerConfig()
    text_format.Parse((FOLDER / "models.config").read_text(), config)
    (model,) = config.model_config_list.config
    assert (model.name, model.model_platform) == ("demo", "tensorflow")
    # `agad-tf demo` writes there, and the folder is mounted at /models.
    assert model.base_path == f"/models/{model.name}"
    assert model.model_version_policy.latest.num_versions == 2


def test_batching_and_the_client_agree():
    import inspect

    from agad_tf.serving import Client

    batching = text_format.Parse((FOLDER / "batching.config").read_text(), message("BatchingParameters"))
    default = inspect.signature(Client.score).parameters["batch_size"].default
    assert batching.max_batch_size.value == default
    assert batching.num_batch_threads.value > 0
    assert batching.batch_timeout_micros.value < 100_000


def test_prometheus_asks_where_the_server_answers(compose):
    monitoring = text_format.Parse((FOLDER / "monitoring.config").read_text(), message("MonitoringConfig"))
    assert monitoring.prometheus_config.enable
    (job,) = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]
    assert job["metrics_path"] == monitoring.prometheus_config.path
    assert job["static_configs"] == [{"targets": ["serving:8501"]}]
    assert "serving" in compose


def test_images_are_pinned_and_of_the_tested_version(compose):
    required = (ROOT / "requirements.txt").read_text()
    tested = re.search(r"^tensorflow-serving-api==([\d.]+)", required, re.M).group(1)
    assert compose["serving"]["image"] == f"tensorflow/serving:{tested}"
    assert re.fullmatch(r"prom/prometheus:v\d+\.\d+\.\d+", compose["prometheus"]["image"])


def test_everything_that_is_mounted_or_named_exists(compose):
    for service in compose.values():
        for volume in service["volumes"]:
            source, _, mode = volume.split(":")
            assert (FOLDER / source).resolve().exists(), source
            assert mode == "ro"
        for port in service["ports"]:
            assert port.startswith("127.0.0.1:")
    files = [
        option.split("=/config/")[1] for option in compose["serving"]["command"] if "=/config/" in option
    ]
    assert sorted(files) == ["batching.config", "models.config", "monitoring.config"]
    for name in files:
        assert (FOLDER / name).is_file()
