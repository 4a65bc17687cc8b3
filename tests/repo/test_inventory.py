"""Nothing that 0.1.0 offered is lost: commands, options, names, settings, files. Additions are allowed.

The list, inventory_0_1_0.json, was written by `collected()` at commit 8c0ab00 and is not changed since.
"""

import json
import re
from pathlib import Path

import click
import pytest

import agad_tf
from agad_tf.cli import main
from agad_tf.training.configuration import configure

ROOT = Path(__file__).resolve().parents[2]
BEFORE = json.loads(Path(__file__).with_name("inventory_0_1_0.json").read_text())


def options_of(command: click.Command) -> dict[str, list]:
    """Flags and arguments of a command, each with its choices where it has some."""
    # The context's command: of a door it is the one behind it.
    command = command.make_context(command.name, [], resilient_parsing=True).command
    found = {}
    for parameter in command.params:
        names = [*parameter.opts, *parameter.secondary_opts]
        found |= {name: list(getattr(parameter.type, "choices", [])) for name in names}
    return found


def keys_of(content: dict, before: str = "") -> list[str]:
    """Names of all settings, sections joined by dots."""
    nested = {name: value for name, value in content.items() if isinstance(value, dict) and value}
    found = [f"{before}{name}" for name in content if name not in nested]
    return found + [key for name, value in nested.items() for key in keys_of(value, f"{before}{name}.")]


def reference(root: Path) -> list[str]:
    """Last names of what the reference documents, and its members that are listed."""
    pages = (root / "docs/reference").glob("*.md")
    return sorted(
        {name.split(".")[-1] for p in pages for name in re.findall(r"^::: (\S+)", p.read_text(), re.M)}
    )


def literals(root: Path) -> list[str]:
    """Marks of file formats, and names of files, in the source of the package."""
    marks = (
        r"\"(agad_tf[ .][a-z_ ]+[ /]\d+|[\w-]+\.(?:json|yaml|npz|keras|html|csv|onnx|tflite|pb|checkpoint))\""
    )
    text = "\n".join(path.read_text("utf-8") for path in sorted((root / "agad_tf").rglob("*.py")))
    return sorted(set(re.findall(marks, text)))


def collected(root: Path = ROOT) -> dict:
    return {
        "commands": {name: options_of(command) for name, command in sorted(main.commands.items())},
        "names": list(agad_tf.__all__),
        "reference": reference(root),
        "settings": {name: sorted(keys_of(configure(name))) for name in ("agad", "aa_bigan")},
        "files": literals(root),
    }


def lost(before, now, where="") -> list[str]:
    """What is in `before` and not in `now`, by its place."""
    if isinstance(before, dict):
        missing = [f"{where}{name}" for name in before if name not in now]
        kept = (name for name in before if name in now)
        return missing + [line for name in kept for line in lost(before[name], now[name], f"{where}{name} ")]
    return [f"{where}{name}" for name in before if name not in now]


@pytest.mark.parametrize("kind", ["commands", "names", "reference", "settings", "files"])
def test_nothing_is_lost(kind):
    assert BEFORE[kind]
    assert not lost(BEFORE[kind], collected()[kind])


def test_a_loss_is_noticed():
    before = {"score": {"--out": [], "--format": ["csv", "parquet"]}}
    assert lost(before, {"score": {"--format": ["csv"], "--new": []}}) == [
        "score --out",
        "score --format parquet",
    ]
    assert lost(before, {}) == ["score"]
