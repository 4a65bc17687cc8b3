"""What one run is: a `Job`; and which jobs a filter lets through."""

import functools
import hashlib
import json
from collections.abc import Iterable

from agad_tf.errors import InputError


class Job(dict):
    """One run: the settings that tell it from all others, by name, JSON-able; `job.seed` is `job["seed"]`.

    Two jobs with the same settings are the same run. A job is not changed once made; `but` gives another.
    """

    def __init__(self, *settings, **more):
        given = dict(*settings, **more)
        # As JSON gives them back.
        super().__init__({k: list(v) if isinstance(v, tuple) else v for k, v in given.items()})

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"this job has no {name}: {', '.join(self)}") from None

    def but(self, **changed) -> "Job":
        """The job with other settings."""
        return Job(self | changed)

    @functools.cached_property
    def key(self) -> str:
        """Hash of all settings."""
        return self._hash()

    @functools.cached_property
    def sha256(self) -> str:
        """Hash of the configuration: everything but the seed."""
        return self._hash("seed")

    @functools.cached_property
    def cell(self) -> str:
        """Hash of everything but seed and epochs: runs of one cell of a table, however long they trained."""
        return self._hash("seed", "epochs")

    def _hash(self, *left_out: str) -> str:
        kept = {name: value for name, value in self.items() if name not in left_out}
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]

    def __str__(self):
        return " ".join(f"{name}={_text(value)}" for name, value in self.items() if value not in (None, {}))


def unique(jobs: Iterable[Job]) -> list[Job]:
    """The jobs without repeats, in order."""
    return list({job.key: job for job in jobs}.values())


def selected(jobs: list[Job], only: str | None) -> list[Job]:
    """The jobs that a filter such as "method=agad,normal_class=0|1|8" lets through.

    Raises:
        InputError: a filter of another form, an unknown name, or one that lets nothing through.
    """
    names = list(dict.fromkeys(name for job in jobs for name in job))
    for part in only.split(",") if only else []:
        name, _, values = (text.strip() for text in part.partition("="))
        if name not in names or not values:
            raise InputError(
                f"--only expects NAME=VALUE[|VALUE...], separated by commas, with NAME one of "
                f"{', '.join(names)}; received '{part}'"
            )
        wanted = {value.strip() for value in values.split("|")}
        found = {_text(job.get(name)) for job in jobs}
        jobs = [job for job in jobs if _text(job.get(name)) in wanted]
        if not jobs:
            raise InputError(f"--only {part} leaves no run: expected {name} among {', '.join(sorted(found))}")
    return jobs


def _text(value) -> str:
    """A setting as one writes it in a filter: none, 0.05, 1+6+9, bn_strategy:freeze."""
    if value is None or value in ({}, []):
        return "none"
    if isinstance(value, dict):
        return "+".join(f"{name}:{value[name]}" for name in sorted(value))
    if isinstance(value, list):
        return "+".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
