"""One shard of prepared images: written with its index, or found whole from before."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agad_tf.data.content import pixel_digest
from agad_tf.data.rows import LazyRows
from agad_tf.data.samples import Samples
from agad_tf.data.sources import shards as records
from agad_tf.data.sources.file_store import FileStore
from agad_tf.data.sources.files import LeftOut
from agad_tf.data.sources.images import MixedSizesError, resize_uint8, set_channels
from agad_tf.errors import InputError
from agad_tf.files import rename_whole, write_atomically

_BLOCK_BYTES = 32 * 2**20  # pixels decoded ahead of the writer
_HEADER, _FOOTER = 12, 4  # length and its checksum before, checksum behind the data of a TFRecord


@dataclass(frozen=True)
class Plan:
    """How every image is converted."""

    shape: tuple[int, int, int]
    image_size: tuple[int, int] | None
    channels: int
    crop: str

    def convert(self, pixels: np.ndarray) -> np.ndarray:
        pixels = set_channels(pixels, self.channels)
        if self.image_size is not None:
            pixels = resize_uint8(pixels, self.image_size, self.crop)
        if pixels.shape != self.shape:
            raise MixedSizesError(
                f"expected {self.shape[0]} x {self.shape[1]} (height x width) as in the first image, "
                f"received {pixels.shape[0]} x {pixels.shape[1]}; pass an image size to resize all images"
            )
        return pixels


class SourceImages:
    """The images of samples one by one, each as its source stores it, and what is written beside them."""

    def __init__(self, samples: Samples):
        lazy = isinstance(samples.x, LazyRows) and isinstance(samples.x.store, FileStore)
        self.samples, self.store = samples, samples.x.store if lazy else None
        self.root = self.store.root.resolve() if lazy else Path()

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        return self.store.listing.left_out if self.store else ()

    def read(self, row: int) -> np.ndarray:
        return self.store.image(row) if self.store else np.asarray(self.samples.x[row])

    def mark(self, row: int) -> bytes:
        """What tells whether an image has changed since."""
        return self.store.mark(row) if self.store else pixel_digest(self.read(row))

    def path(self, row: int) -> str:
        """Relative to `root`; "" where there are no files."""
        return self.store.relative(self.samples.paths[row]) if self.store else ""

    def mask(self, row: int) -> str:
        """Relative to `root`; "" where there is none."""
        return self.store.relative(self.samples.masks[row]) if self.store and self.samples.masks else ""

    def group(self, row: int) -> str:
        return "" if self.samples.group is None else str(self.samples.group[row])

    def part(self, row: int) -> str:
        return "" if self.samples.part is None else str(self.samples.part[row])


def fingerprint_of(images: SourceImages, rows: np.ndarray, settings: dict, plan: Plan) -> str:
    """Changes with everything that the bytes of a shard depend on."""
    digest = hashlib.sha256(json.dumps([settings, plan.shape, images.samples.class_names]).encode())
    for row in rows.tolist():
        told = [row, images.samples.classes[row], images.part(row), images.mask(row)]
        if images.samples.group is not None:  # without groups as it was before there were any
            told.append(images.group(row))
        digest.update(records.encoded("".join(f"{one}:" for one in told)) + images.mark(row))
    return digest.hexdigest()


def write_shard(
    folder: Path,
    name: str,
    kind: str,
    rows: np.ndarray,
    images: SourceImages,
    plan: Plan,
    pool: ThreadPoolExecutor,
    on_error: str,
    settings: dict,
) -> dict:
    """Writes one shard and its index, unless a whole one is there already; returns its manifest entry."""
    import tensorflow as tf

    target, index_target = folder / f"{name}.tfrecord", folder / f"{name}.npz"
    fingerprint = fingerprint_of(images, rows, settings, plan)
    finished = _finished(target, index_target, fingerprint)
    if finished is not None and (on_error == "skip" or not finished["skipped"]):
        return finished
    index_target.unlink(missing_ok=True)
    partial = folder / f".{name}.partial"
    kept, offsets, digests, skipped = [], [], [], []
    position = 0
    with tf.io.TFRecordWriter(str(partial)) as writer:
        for row, image in _converted(rows, images, plan, pool):
            if isinstance(image, InputError):
                if on_error == "stop":
                    raise image
                skipped.append({"path": images.path(row) or f"row {row}", "reason": str(image)})
                continue
            pixels = image.tobytes()
            record = _example(images, row, kind, pixels)
            writer.write(record)
            kept.append(row)
            # Equal bytes anywhere in the record are the same image: the first place is as good as any.
            offsets.append(position + _HEADER + record.index(pixels))
            digests.append(pixel_digest(image))
            position += _HEADER + len(record) + _FOOTER
    rename_whole(partial, target)
    classes, grouped = images.samples.classes, images.samples.group
    parts = [records.PARTS.index(images.part(row)) for row in kept]
    about = {
        "fingerprint": fingerprint,
        "kind": kind,
        "skipped": skipped,
        "sha256": records.file_sha256(target),
    }
    buffer = io.BytesIO()
    np.savez(
        buffer,
        about=np.array(json.dumps(about)),
        row=np.array(kept, np.int64),
        offset=np.array(offsets, np.int64),
        digest=np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 16),
        part=np.array(parts, np.uint8),
        paths=records.join_strings([images.path(row) for row in kept]),
        masks=records.join_strings([images.mask(row) for row in kept]),
        **{"class": classes[kept].astype(np.int32) if kept else np.zeros(0, np.int32)},
        **({} if grouped is None else {"groups": records.join_strings([images.group(row) for row in kept])}),
    )
    # The index comes last: a shard that has one is whole.
    write_atomically(index_target, buffer.getvalue())
    return _entry(target, index_target, about, len(kept))


def _example(images: SourceImages, row: int, kind: str, pixels: bytes) -> bytes:
    import tensorflow as tf

    example = tf.train.Example()
    feature = example.features.feature
    feature["image"].bytes_list.value.append(pixels)
    for name, number in (("label", kind == "anomaly"), ("class", images.samples.classes[row]), ("row", row)):
        feature[name].int64_list.value.append(int(number))
    for name, text in (("path", images.path(row)), ("part", images.part(row))):
        feature[name].bytes_list.value.append(records.encoded(text))
    return example.SerializeToString(deterministic=True)


def _converted(
    rows: np.ndarray, images: SourceImages, plan: Plan, pool: ThreadPoolExecutor
) -> Iterator[tuple[int, np.ndarray | InputError]]:
    """The converted images in order, or the reason why there is none, a bounded number decoded ahead."""

    def one(row: int) -> np.ndarray | InputError:
        try:
            pixels = images.read(row)
        except InputError as error:
            return error
        try:
            return plan.convert(pixels)
        except InputError as error:
            return type(error)(f"{images.root / images.path(row)}: {error}")

    block = int(min(256, max(1, _BLOCK_BYTES // np.prod(plan.shape))))
    for start in range(0, len(rows), block):
        some = rows[start : start + block].tolist()
        yield from zip(some, pool.map(one, some), strict=True)


def _finished(target: Path, index_target: Path, fingerprint: str) -> dict | None:
    """The manifest entry of a shard that an earlier call wrote; None where it must be written."""
    if not (target.is_file() and index_target.is_file()):
        return None
    try:
        with np.load(index_target, allow_pickle=False) as archive:
            about, count = json.loads(archive["about"].item()), len(archive["row"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None  # cut by an interruption
    if about["fingerprint"] != fingerprint or about["sha256"] != records.file_sha256(target):
        return None
    return _entry(target, index_target, about, count)


def _entry(target: Path, index_target: Path, about: dict, count: int) -> dict:
    return {
        "file": target.name,
        "kind": about["kind"],
        "records": count,
        "bytes": target.stat().st_size,
        "sha256": about["sha256"],
        "index": index_target.name,
        "index_bytes": index_target.stat().st_size,
        "index_sha256": records.file_sha256(index_target),
        "fingerprint": about["fingerprint"],
        "skipped": about["skipped"],
    }
