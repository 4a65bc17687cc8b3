"""What there is to score: image files, or for a detector of tables the rows in its files."""

from collections.abc import Iterable, Iterator
from typing import IO

from agad_tf.identity import Identity
from agad_tf.scoring.files import Sample, find_files
from agad_tf.scoring.tables import UNKNOWN, table_samples


def samples_of(
    paths: Iterable[str],
    stdin: IO[bytes],
    features: int | None,
    label_column: str | int | None = None,
    identity: Identity = UNKNOWN,
) -> Iterator[Sample]:
    """What there is to score for a detector of tables with so many `features`, or of images (None).

    See `find_files` and `table_samples` for the arguments.
    """
    files = find_files(paths, stdin, table=features is not None)
    yield from with_rows(files, features, label_column, identity)


def with_rows(
    files: Iterable[Sample],
    features: int | None,
    label_column: str | int | None = None,
    identity: Identity = UNKNOWN,
) -> Iterator[Sample]:
    """The files, or, for a detector of tables with so many `features`, the rows in them."""
    if features is None:
        yield from files
        return
    for file in files:
        if file.error is None:
            yield from table_samples(file.path, features, label_column, identity)
        else:
            yield file
