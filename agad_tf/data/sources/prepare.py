"""From any source of images to shards: in parallel, resumable, whole or not at all."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from agad_tf.data.samples import Samples
from agad_tf.data.sources import shards as records
from agad_tf.data.sources.images import check_crop
from agad_tf.data.sources.load import PHOTOS, TFDS, check_size, find, load_samples
from agad_tf.data.sources.shard_writer import Plan, SourceImages, fingerprint_of, write_shard
from agad_tf.data.sources.work_folder import own_files, remove, work_folder
from agad_tf.data.splits.protocols import normal_class_indices
from agad_tf.errors import InputError
from agad_tf.files import rename_whole, write_atomically
from agad_tf.pixels import image_header

SHARD_BYTES = 128 * 2**20
MOST_SHARDS = 512  # each is an open file while training reads it


def _open(spec: str | Path, channels: int | None, out: Path, group: str | None) -> Samples:
    """The samples to prepare: files stay where they are, other sources are read as a whole."""
    if str(spec) != "digits" and not str(spec).startswith((TFDS, PHOTOS)):
        path = find(spec)
        if path.is_dir() and records.is_shard_folder(path):
            raise InputError(
                f"{path}: expected images, received shards that are prepared already; train on them"
            )
        if path.is_dir() and path.resolve() in out.resolve().parents:
            raise InputError(f"{out}: expected a folder outside of the source {path}; choose another OUT")
    samples = load_samples(spec, channels=channels, group=group, lazy=True)
    if isinstance(samples.x, np.ndarray) and samples.x.ndim != 4:
        raise InputError(
            f"{samples.name}: expected images to prepare, received a table; train on it directly"
        )
    return samples


def prepare(
    spec: str | Path,
    out: str | Path,
    *,
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    crop: str = "stretch",
    normal_classes: Sequence[int | str] | None = None,
    group: str | None = None,
    on_error: str = "stop",
    workers: int | None = None,
    shard_bytes: int = SHARD_BYTES,
    progress: bool = True,
) -> dict:
    """Writes the images of a source as TFRecord shards, normals and anomalies apart, with a manifest.

    The work is done in `out`.partial, a shard at a time, and renamed when it is whole. After an interruption
    the same call goes on behind the last whole shard; what it ends with is, byte for byte, what an
    undisturbed call ends with. On a finished folder the same call checks every shard and writes nothing.

    Args:
        spec: any source of images that `load_samples` takes. Folders and manifests are read image by image,
            other sources as a whole.
        out: the folder to write; must not exist, or be a finished one of the same source and settings.
        image_size: (height, width) the images are stored at, or one number; None keeps their size, which must
            then be the same for all.
        channels: 1 or 3; None keeps 1 where every image is grey, else 3.
        crop: what `image_size` does to another aspect, "stretch" or "centre".
        normal_classes: names or indices; needed where the source does not say which classes are normal.
        group: which images belong together, see `load_samples`; kept in the shards.
        on_error: "stop" at the first image that cannot be used, "skip" it and list it with the reason.
        workers: threads that decode; None takes one a CPU core.
        shard_bytes: pixels of a shard, about.
        progress: show a progress bar on standard error.

    Returns:
        The manifest: counts, classes, image size, skipped files with their reasons, checksums.

    Raises:
        InputError: a source that holds no images, an image that cannot be used (under "stop"), no known
            normal class, an `out` of another content, or one that another process is writing.
    """
    out = Path(out)
    size = check_size(image_size)
    check_crop(crop)
    if on_error not in ("stop", "skip"):
        raise InputError(f"on_error expects stop or skip, received {on_error!r}")
    source = _open(spec, channels, out, group)
    images = SourceImages(source)
    if images.store is not None:
        images.store.check_depth()
    normals = normal_class_indices(source, normal_classes)
    workers = workers or os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        depth = channels or _depth(images, pool)
        plan = _plan(images, size, depth, crop, on_error)
        settings = {"image_size": size, "channels": channels, "crop": crop, "normal_classes": list(normals)}
        settings |= {"shard_bytes": shard_bytes} | ({"group": group} if group is not None else {})
        shards = _shards(np.isin(source.classes, normals), plan, shard_bytes)
        if out.exists():
            return _check_finished(out, images, settings, shards, plan, on_error)
        with work_folder(out) as folder:
            bar = tqdm(
                total=len(source.classes),
                desc="preparing",
                unit="image",
                file=sys.stderr,
                disable=not progress,
            )
            with bar:
                written = []
                for name, kind, rows in shards:
                    written.append(
                        write_shard(folder, name, kind, rows, images, plan, pool, on_error, settings)
                    )
                    bar.update(len(rows))
            manifest = _manifest(images, normals, plan, settings, written)
            expected = {entry[key] for entry in manifest["shards"] for key in ("file", "index")}
            remove(file for file in own_files(folder) if file.name not in expected)
            write_atomically(folder / records.MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
            rename_whole(folder, out)
    return manifest


def _depth(images: SourceImages, pool: ThreadPoolExecutor) -> int:
    if images.store is None:
        return images.read(0).shape[-1]

    def grey(file: Path) -> bool:
        try:
            return image_header(file)[1]
        except InputError:
            return True  # told when it is its turn to be read

    return 1 if all(pool.map(grey, images.store.listing.files)) else 3


def _plan(images: SourceImages, size: tuple[int, int] | None, depth: int, crop: str, on_error: str) -> Plan:
    if size is not None:
        return Plan((*size, depth), size, depth, crop)
    for row in range(len(images.samples.classes)):
        try:
            return Plan((*images.read(row).shape[:2], depth), None, depth, crop)
        except InputError:
            if on_error == "stop":
                raise
    raise InputError(f"{images.samples.name}: expected readable images, received none; check the files")


def _shards(normal: np.ndarray, plan: Plan, shard_bytes: int) -> list[tuple[str, str, np.ndarray]]:
    """(name, kind, rows) of each shard."""
    image_bytes = int(np.prod(plan.shape))
    shard_bytes = max(shard_bytes, len(normal) * image_bytes // MOST_SHARDS)
    size = max(1, shard_bytes // image_bytes)
    shards = []
    for kind, rows in zip(records.KINDS, (np.flatnonzero(normal), np.flatnonzero(~normal)), strict=True):
        pieces = [rows[start : start + size] for start in range(0, len(rows), size)]
        shards += [(f"{kind}-{i:05d}-of-{len(pieces):05d}", kind, piece) for i, piece in enumerate(pieces)]
    return shards


def _manifest(
    images: SourceImages, normals: Sequence[int], plan: Plan, settings: dict, shards: list[dict]
) -> dict:
    source = images.samples
    skipped = [entry for shard in shards for entry in shard.pop("skipped")]
    counts = Counter()
    for shard in shards:
        counts[shard["kind"]] += shard["records"]
    if not sum(counts.values()):
        raise InputError(f"{source.name}: expected readable images, received none; check the files")
    bad = {entry["path"] for entry in skipped}
    per_class = Counter(
        images.samples.class_names[index]
        for row, index in enumerate(source.classes.tolist())
        if (images.path(row) or f"row {row}") not in bad
    )
    return {
        "format": records.FORMAT,
        "version": records.VERSION,
        "name": source.name,
        "root": str(images.root),
        "image_shape": list(plan.shape),
        "class_names": list(images.samples.class_names),
        "normal_classes": list(normals),
        "named_by_source": source.normal_classes is not None,
        "counts": {kind: counts[kind] for kind in records.KINDS} | {"skipped": len(skipped)},
        "class_counts": {name: per_class[name] for name in images.samples.class_names},
        "skipped": skipped,
        "other_files": [images.store.relative(one.path) for one in images.left_out],
        "settings": settings,
        # Of empty shards too: a kind that had no readable image may have some the next time.
        "fingerprints": {shard["file"]: shard["fingerprint"] for shard in shards},
        "shards": [shard for shard in shards if shard["records"]],
    }


def _check_finished(
    out: Path,
    images: SourceImages,
    settings: dict,
    shards: list[tuple[str, str, np.ndarray]],
    plan: Plan,
    on_error: str,
) -> dict:
    """The manifest of a folder that holds this very preparation, whole."""
    if not records.is_shard_folder(out):
        raise InputError(f"{out}: expected a free name, found something else there; choose another OUT")
    manifest = records.read_manifest(out)
    fingerprints = {
        f"{name}.tfrecord": fingerprint_of(images, rows, settings, plan) for name, _, rows in shards
    }
    stored = {shard["file"]: shard["fingerprint"] for shard in manifest["shards"]}
    if fingerprints != manifest.get("fingerprints", stored):
        raise InputError(
            f"{out}: expected shards of the same source and settings, found others; choose another OUT or "
            "remove the folder"
        )
    if on_error == "stop" and manifest["skipped"]:
        raise InputError(
            f"{out}: expected shards of every image, found that {len(manifest['skipped'])} were left out, "
            f"e.g. {manifest['skipped'][0]['path']}; pass --on-error skip to take them so, or mend the "
            "images and remove the folder"
        )
    damaged = records.verify_shards(out)
    if damaged:
        raise InputError(
            f"{out / damaged[0]}: expected the content the manifest has the checksum of, found another "
            f"({len(damaged)} such files); remove the folder and prepare anew"
        )
    return manifest
