"""Archives and shards that are damaged, lie about their size, or point elsewhere: one line each."""

import io
import json
import struct
import zipfile

import h5py
import numpy as np
import pytest

from agad_tf.data.sources.load import load_samples
from agad_tf.data.sources.prepare import prepare
from agad_tf.errors import InputError

RNG = np.random.default_rng(0)


def refused(message, *args, **kwargs):
    with pytest.raises(InputError, match=message) as error:
        load_samples(*args, **kwargs)
    assert "\n" not in str(error.value)


# --- .npz ------------------------------------------------------------------------------------------


def announced(path, shape, dtype="<f8", content=b""):
    """An archive whose array X announces a shape that its content does not have."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": dtype, "fortran_order": False, "shape": shape})
    labels = io.BytesIO()
    np.save(labels, np.arange(4) % 2)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("X.npy", header.getvalue() + content)
        archive.writestr("y.npy", labels.getvalue())
    return path


def test_an_array_that_announces_more_than_it_holds(tmp_path):
    refused(
        "'X': expected 80000000000000 bytes for shape .*received 0", announced(tmp_path / "a.npz", (10**13,))
    )
    refused("'X': expected 64 bytes for shape", announced(tmp_path / "b.npz", (4, 2), content=bytes(40)))


def test_an_array_larger_than_memory(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "bomb.npz", X=np.zeros((4, 2**18)), y=np.arange(4) % 2)
    monkeypatch.setattr("os.sysconf", lambda name: 1024)
    refused("'X': expected an array that fits into this machine's memory", tmp_path / "bomb.npz")


def test_memory_that_runs_out_while_reading(tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", X=np.zeros((4, 2)), y=np.arange(4) % 2)

    def full(*args, **kwargs):
        raise MemoryError("Unable to allocate 7 GiB")

    monkeypatch.setattr(np.lib.format, "read_array", full)
    refused("an .npz archive that fits into memory, received: Unable to allocate", tmp_path / "a.npz")


def test_cut_archives(tmp_path):
    path = tmp_path / "whole.npz"
    np.savez_compressed(path, X=RNG.normal(size=(40, 3)), y=np.arange(40) % 2)
    content = path.read_bytes()
    for share in (0.1, 0.5, 0.9, 0.99):
        (tmp_path / "cut.npz").write_bytes(content[: int(share * len(content))])
        refused("cut.npz", tmp_path / "cut.npz")
    told = []
    for start in range(0, len(content) - 8, 37):
        damaged = bytearray(content)
        damaged[start : start + 4] = struct.pack("<I", 0xDEADBEEF)
        (tmp_path / "damaged.npz").write_bytes(damaged)
        try:
            load_samples(tmp_path / "damaged.npz")
        except InputError as error:
            told.append(str(error))
    assert len(told) > 10
    assert all("damaged.npz" in message and "\n" not in message for message in told)


def test_names_that_are_no_list(tmp_path):
    images, labels = RNG.integers(0, 256, (4, 3, 3), np.uint8), np.arange(4) % 2
    np.savez(tmp_path / "a.npz", x=images, y=labels, class_names=np.array("normal"))
    refused(r"'class_names': expected a list of names, received shape \(\)", tmp_path / "a.npz")


# --- .mat ------------------------------------------------------------------------------------------


def test_matlab_files_that_point_into_others(tmp_path):
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["X"], file["y"] = RNG.normal(size=(3, 8)), np.zeros((1, 8))
    with h5py.File(tmp_path / "link.mat", "w", userblock_size=512) as file:
        file["X"] = h5py.ExternalLink("secret.h5", "/X")
        file["y"] = np.zeros((1, 8))
    with h5py.File(tmp_path / "virtual.mat", "w", userblock_size=512) as file:
        layout = h5py.VirtualLayout((3, 8), "f8")
        layout[:] = h5py.VirtualSource(tmp_path / "secret.h5", "X", (3, 8))
        file.create_virtual_dataset("X", layout)
        file["y"] = np.zeros((1, 8))
    (tmp_path / "raw.bin").write_bytes(bytes(192))
    with h5py.File(tmp_path / "raw.mat", "w", userblock_size=512) as file:
        file.create_dataset("X", (3, 8), "f8", external=[(str(tmp_path / "raw.bin"), 0, 192)])
        file["y"] = np.zeros((1, 8))
    with h5py.File(tmp_path / "huge.mat", "w", userblock_size=512) as file:
        file.create_dataset("X", (10**7, 10**7), "f8", chunks=(10, 10))
        file["y"] = np.zeros((1, 8))
    for name in ("link", "virtual", "raw", "huge"):
        header = b"MATLAB 7.3 MAT-file".ljust(124) + struct.pack("<HH", 0x0200, 0x4D49)
        with (tmp_path / f"{name}.mat").open("r+b") as file:
            file.write(header)
    for name in ("link", "virtual", "raw"):
        refused(
            "an array in the file itself, received 'X', which points into another", tmp_path / f"{name}.mat"
        )
    refused("expected an array that fits into this machine's memory", tmp_path / "huge.mat")


# --- shards ----------------------------------------------------------------------------------------


@pytest.fixture
def shards(tmp_path):
    np.savez(tmp_path / "set.npz", x=RNG.integers(0, 256, (12, 6, 6), np.uint8), y=["normal", "bad"] * 6)
    prepare(tmp_path / "set.npz", tmp_path / "shards", progress=False)
    return tmp_path / "shards"


def test_an_altered_image_is_noticed_when_it_is_read(shards):
    samples = load_samples(shards)
    before = np.asarray(samples.x)
    file = next(shards.glob("normal-*.tfrecord"))
    content = bytearray(file.read_bytes())
    place = content.index(before[samples.classes == samples.normal_classes[0]][2].tobytes())
    content[place + 7] ^= 1
    file.write_bytes(content)
    samples = load_samples(shards)
    with pytest.raises(InputError, match=r"the image stored at \d+, received another") as error:
        np.asarray(samples.x)
    assert "\n" not in str(error.value)
    sound = np.flatnonzero(samples.classes != samples.normal_classes[0])
    np.testing.assert_array_equal(samples.x.read(sound), before[sound])


def test_an_altered_index_is_noticed(shards):
    index = next(shards.glob("normal-*.npz"))
    content = bytearray(index.read_bytes())
    content[len(content) // 2] ^= 1
    index.write_bytes(content)
    refused("expected the content that the manifest has the checksum of", shards)


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest["shards"][0].update(file="../secret.bin"),
        lambda manifest: manifest["shards"][0].update(index="../secret.bin"),
        lambda manifest: manifest["shards"][0].update(index="/etc/passwd"),
        lambda manifest: manifest["shards"][0].pop("records"),
        lambda manifest: manifest["shards"][0].update(records="many"),
        lambda manifest: manifest.update(image_shape=[6, 6]),
        lambda manifest: manifest.update(image_shape=[6, -6, 1]),
        lambda manifest: manifest.update(image_shape=6),
        lambda manifest: manifest.update(class_names=[1, None]),
        lambda manifest: manifest.update(class_names=[]),
        lambda manifest: manifest.update(normal_classes=[9]),
        lambda manifest: manifest.update(normal_classes=None),
        lambda manifest: manifest.update(shards=[]),
        lambda manifest: manifest.update(shards={"a": 1}),
        lambda manifest: manifest.update(shards=[None]),
        lambda manifest: manifest.pop("name"),
        lambda manifest: manifest.pop("root"),
    ],
)
def test_malformed_manifests(shards, change):
    (shards.parent / "secret.bin").write_bytes(b"secret")
    manifest = json.loads((shards / "manifest.json").read_text())
    change(manifest)
    (shards / "manifest.json").write_text(json.dumps(manifest))
    refused("manifest", shards)


def test_a_manifest_that_is_no_mapping(shards):
    for text in ("[]", "3", "", "{", '"text"', "null", "\x00"):
        (shards / "manifest.json").write_text(text)
        refused("expected the manifest of shards", shards)
