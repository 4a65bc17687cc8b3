"""Shards: TFRecord files of images with an index beside each, read at random without holding any of them."""

from __future__ import annotations

import hashlib
import json
import math
import os
import weakref
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from agad_tf.data.content import pixel_digest, with_shape
from agad_tf.data.rows import LazyRows
from agad_tf.data.samples import Samples
from agad_tf.data.sources.groups import group_by_path
from agad_tf.errors import InputError

MANIFEST = "manifest.json"
LOCK = ".lock"
FORMAT = "agad_tf shards"
VERSION = 1
KINDS = ("normal", "anomaly")
PARTS = ("", "train", "validation", "test")

Manifest = dict[str, Any]


def is_shard_folder(folder: Path) -> bool:
    """Whether `agad-tf prepare` wrote this folder, or was about to."""
    finished = (folder / MANIFEST).is_file() and any(folder.glob("*.tfrecord"))
    return finished or (folder.name.endswith(".partial") and (folder / LOCK).is_file())


def load_shards(
    folder: Path,
    image_size: tuple[int, int] | None = None,
    channels: int | None = None,
    group: str | None = None,
) -> Samples:
    """The samples of a folder of shards, in the order of their source; images are read when needed.

    The rows, classes and parts equal those of the source itself, so that splits and batches are the same.

    Args:
        folder: what `agad-tf prepare` wrote.
        image_size, channels: None, or what the shards hold: they are not converted on the way.
        group: a rule for the paths as in `load_samples`; None takes the groups that the shards hold, if any.

    Raises:
        InputError: unfinished, damaged or missing shards, or another size or number of channels than asked.
    """
    manifest = read_manifest(folder)
    height, width, depth = manifest["image_shape"]
    for name, wanted, stored in (
        ("image_size", image_size, (height, width)),
        ("channels", channels, depth),
    ):
        if wanted is not None and wanted != stored:
            raise InputError(
                f"{folder}: expected {name} {stored} as stored in the shards, received {wanted}; leave it "
                f"out or prepare the shards anew with {name} {wanted}"
            )
    store = ShardStore(folder, manifest)
    names = _Strings(store.strings("paths"), Path(manifest["root"]))
    masks = _Strings(store.strings("masks"), Path(manifest["root"]))
    parts = store.column("part")
    return Samples(
        manifest["name"],
        LazyRows(store),
        store.column("class").astype(np.int64),
        tuple(manifest["class_names"]),
        part=np.array(PARTS)[parts] if parts.any() else None,
        normal_classes=tuple(manifest["normal_classes"]),
        paths=names if any(names.texts) else None,
        masks=masks if any(masks.texts) else None,
        group=_group(folder, store, names.texts, group),
    )


def _group(folder: Path, store: ShardStore, paths: list[bytes], rule: str | None) -> np.ndarray | None:
    if rule is not None:
        return group_by_path([decoded(path) for path in paths], rule, str(folder))
    return np.array([decoded(name) for name in store.strings("groups")]) if store.has("groups") else None


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder of shards; all its files are there, in the sizes it says.

    Raises:
        InputError: no or another kind of manifest, an unfinished folder, missing or cut files, or a name that
            leads out of the folder.
    """
    if folder.name.endswith(".partial") and not (folder / MANIFEST).is_file():
        raise InputError(
            f"{folder}: expected finished shards, received an interrupted preparation; run the same "
            "`agad-tf prepare` again to finish it"
        )
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        _check_manifest(manifest)
        for shard in manifest["shards"]:
            for name, size in ((shard["file"], shard["bytes"]), (shard["index"], shard["index_bytes"])):
                if Path(name).name != name:
                    raise InputError(
                        f"{folder / MANIFEST}: expected names of files beside it, received '{name}'; prepare "
                        "the shards anew"
                    )
                received = (folder / name).stat().st_size if (folder / name).is_file() else None
                if received != size:
                    raise InputError(
                        f"{folder / name}: expected {size} bytes as the manifest says, received "
                        f"{'no file' if received is None else received}; copy the folder again"
                    )
    except (OSError, ValueError, KeyError, TypeError, RecursionError, MemoryError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{folder / MANIFEST}: expected the manifest of shards, received something else ({error}); "
            "prepare the shards anew"
        ) from None
    return manifest


def _check_manifest(manifest: Manifest) -> None:
    """Raises ValueError, KeyError or TypeError at what no manifest of ours holds."""
    if manifest["format"] != FORMAT or manifest["version"] != VERSION:
        raise ValueError("another format or version")
    shape, names = manifest["image_shape"], manifest["class_names"]
    if len(shape) != 3 or any(type(side) is not int or side < 1 for side in shape):
        raise ValueError(f"image_shape {shape}")
    if not all(isinstance(text, str) for text in (*names, manifest["name"], manifest["root"])):
        raise ValueError("names that are no text")
    if any(type(index) is not int or not 0 <= index < len(names) for index in manifest["normal_classes"]):
        raise ValueError(f"normal_classes {manifest['normal_classes']}")
    if not manifest["shards"]:
        raise ValueError("no shards")
    for shard in manifest["shards"]:
        if not all(isinstance(shard[key], str) for key in ("file", "index", "index_sha256")):
            raise ValueError("a shard without the names of its files")
        most = shard["bytes"] // math.prod(shape)  # pixels lie in a shard as they are
        if type(shard["records"]) is not int or not 1 <= shard["records"] <= most:
            raise ValueError(f"{shard['records']} records of {shape} in {shard['bytes']} bytes")


def verify_shards(folder: Path) -> list[str]:
    """Names of the files whose content is not the one the manifest gives the checksum of; reads them all."""
    manifest = read_manifest(folder)
    pairs = [(s["file"], s["sha256"]) for s in manifest["shards"]]
    pairs += [(s["index"], s["index_sha256"]) for s in manifest["shards"]]
    return [name for name, checksum in pairs if file_sha256(folder / name) != checksum]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class ShardStore:
    """Reads images of shards by their position in the source; holds the index, not the images."""

    def __init__(self, folder: Path, manifest: Manifest):
        self.folder = folder
        self.manifest = manifest
        indices = [self._index(shard) for shard in manifest["shards"]]
        rows = np.concatenate([index["row"] for index in indices])
        # Shards hold normals and anomalies apart; here they are in the order of the source again.
        self._order = np.argsort(rows)
        self._indices = indices
        self._shard = np.repeat(np.arange(len(indices), dtype=np.int32), [len(i["row"]) for i in indices])
        self._shard = self._shard[self._order]
        self._offset = self.column("offset")
        self._pixel_digests = self.column("digest")
        self.shape = (len(rows), *manifest["image_shape"])
        self._bytes = int(np.prod(manifest["image_shape"]))
        self._files: dict[int, int] = {}

    def _index(self, shard: dict[str, Any]) -> dict[str, np.ndarray]:
        path = self.folder / shard["index"]
        if file_sha256(path) != shard["index_sha256"]:
            raise InputError(
                f"{path}: expected the content that the manifest has the checksum of, received another; copy "
                "the folder again, or prepare the shards anew"
            )
        try:
            with np.load(path, allow_pickle=False) as archive:
                index = {name: archive[name] for name in archive.files if name != "about"}
                lengths = {len(index[name]) for name in ("row", "offset", "digest", "part", "class")}
        except (
            OSError,
            ValueError,
            EOFError,
            KeyError,
            TypeError,
            MemoryError,
            zipfile.BadZipFile,
            zlib.error,
        ) as error:
            raise InputError(
                f"{path}: expected the index of a shard, received something else; prepare anew"
            ) from error
        if lengths != {shard["records"]}:
            raise InputError(
                f"{path}: expected {shard['records']} entries as in the manifest, received others"
            )
        return index

    def has(self, name: str) -> bool:
        """Whether the indices have this value."""
        return all(name in index for index in self._indices)

    def column(self, name: str) -> np.ndarray:
        """One value a row from the indices, in the order of the source."""
        return np.concatenate([index[name] for index in self._indices])[self._order]

    def strings(self, name: str) -> list[bytes]:
        """One text a row, in the order of the source."""
        texts = [text for index in self._indices for text in split_strings(index[name], len(index["row"]))]
        return [texts[position] for position in self._order]

    @cached_property
    def digests(self) -> np.ndarray:
        """Content digest of each image, uint8 (n, 16), made from those of the pixels that the index holds."""
        return with_shape(self._pixel_digests, self.shape[1:])

    def read(self, rows: np.ndarray) -> np.ndarray:
        """The images at these positions, uint8 (len(rows), height, width, channels).

        Raises:
            InputError: a shard that has become shorter, or an image that is not the one that was stored.
        """
        out = np.empty((len(rows), *self.shape[1:]), np.uint8)
        flat = memoryview(out.reshape(-1))
        size = self._bytes
        shards, offsets = self._shard[rows].tolist(), self._offset[rows].tolist()
        for index, (shard, offset) in enumerate(zip(shards, offsets, strict=True)):
            # Not a memory map: its pages would count as this process's memory, image after image.
            received = os.preadv(self._file(shard), [flat[index * size : (index + 1) * size]], offset)
            if received != size:
                name = self.manifest["shards"][shard]["file"]
                raise InputError(
                    f"{self.folder / name}: expected {size} bytes at {offset}, received {received}; "
                    "the file has changed: prepare the shards anew"
                )
            if pixel_digest(out[index]) != self._pixel_digests[rows[index]].tobytes():
                name = self.manifest["shards"][shard]["file"]
                raise InputError(
                    f"{self.folder / name}: expected the image stored at {offset}, received another: "
                    "the file has changed; copy the folder again, or prepare the shards anew"
                )
        return out

    def _file(self, shard: int) -> int:
        if shard not in self._files:
            descriptor = os.open(self.folder / self.manifest["shards"][shard]["file"], os.O_RDONLY)
            if self._files.setdefault(shard, descriptor) != descriptor:
                os.close(descriptor)  # another thread was faster
            else:
                weakref.finalize(self, os.close, descriptor)
        return self._files[shard]


class _Strings(Sequence):
    """Paths, or None where there is none, made from bytes when they are looked at."""

    def __init__(self, texts: list[bytes], root: Path):
        self.texts, self.root = texts, root

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        text = self.texts[index]
        return str(self.root / decoded(text)) if text else None


def encoded(text: str) -> bytes:
    """UTF-8; of the names of files, which need not be Unicode, the bytes that they have on the disk."""
    return text.encode("utf-8", "surrogateescape")


def decoded(text: bytes) -> str:
    """The twin of `encoded`."""
    return text.decode("utf-8", "surrogateescape")


def join_strings(texts: Sequence[str]) -> np.ndarray:
    """Texts as one uint8 array, each ended by a zero byte: what an index holds."""
    return np.frombuffer(b"".join(encoded(text) + b"\0" for text in texts), np.uint8)


def split_strings(packed: np.ndarray, count: int) -> list[bytes]:
    """The texts of `join_strings`."""
    return packed.tobytes().split(b"\0")[:count]


def shard_examples(folder: str | Path, kind: str | None = None) -> Iterator[dict[str, Any]]:
    """Every record as TensorFlow's own reader gives it, for programs that know nothing of the index.

    Args:
        folder: what `agad-tf prepare` wrote.
        kind: "normal", "anomaly" or None for both.

    Yields:
        `image` uint8 (height, width, channels), `label` 0 or 1, `class`, `row`, and the texts `path`, `part`.
    """
    import tensorflow as tf

    folder = Path(folder)
    manifest = read_manifest(folder)
    files = [str(folder / s["file"]) for s in manifest["shards"] if kind in (None, s["kind"])]
    numbers, texts = ("label", "class", "row"), ("image", "path", "part")
    features = {name: tf.io.FixedLenFeature((), tf.int64) for name in numbers}
    features |= {name: tf.io.FixedLenFeature((), tf.string) for name in texts}
    for serialized in tf.data.TFRecordDataset(files):
        record = {
            name: value.numpy() for name, value in tf.io.parse_single_example(serialized, features).items()
        }
        image = np.frombuffer(record["image"], np.uint8).reshape(manifest["image_shape"])
        yield {name: int(record[name]) for name in numbers} | {
            "image": image,
            "path": decoded(record["path"]),
            "part": decoded(record["part"]),
        }
