"""Imports point one way, and TensorFlow loads only where it is needed."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import agad_tf

ROOT = Path(agad_tf.__file__).parent

# A package may import those of the lines above its own, and itself.
ORDER = [
    {
        "checksums",
        "columns",
        "csv_rows",
        "edge",
        "edge_metadata",
        "encoding",
        "errors",
        "files",
        "formulas",
        "frames",
        "identity",
        "keras_backend",
        "keras_private",
        "pixels",
        "replicas",
    },
    {"layers"},
    {"networks", "features"},
    {"models"},
    {"baselines"},
    {"training"},
    {"serving"},
    {"scoring"},
    {"export"},
    {"comparison"},
    {"cli", "commands", "demo", "sklearn"},
]
# These stand beside: they know none of the others, and only models and what follows may know them.
BESIDE = {"losses", "data", "evaluation"}
FIRST_TO_KNOW_THEM = 3  # models
# Boards decide by the one definition; it needs NumPy only, which `test_a_board_needs_numpy_only` checks.
EXCEPTIONS = {("edge", "evaluation")}

WITH_TENSORFLOW_IN_DATA = {"augmentation.py", "quota.py", "streams.py"}
HEAVY = {"tensorflow", "keras"}


def modules():
    return sorted(ROOT.rglob("*.py"))


def package_of(path):
    """Top-level package or module of a file, None for agad_tf/__init__.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return None if parts == ("__init__",) else parts[0]


def rank(package):
    return next((number for number, line in enumerate(ORDER) if package in line), None)


def imported(path):
    """(line, dotted name) of every import in a file, also of those inside functions."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                here = ("agad_tf", *path.relative_to(ROOT).with_suffix("").parts)
                base = ".".join([*here[: -node.level], *base.split(".")]).rstrip(".")
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def target(name):
    """Top-level package of agad_tf that an imported name belongs to; None for anything else."""
    parts = name.split(".")
    if parts[0] != "agad_tf" or len(parts) == 1:
        return None
    lazy = agad_tf._LAZY.get(parts[1])
    if lazy is not None:
        return lazy.split(".")[1]
    return None if parts[1].startswith("__") else parts[1]


def complaint(package, other):
    """Why `package` may not import `other`; None where it may."""
    if package == other or other in ORDER[0] or (package, other) in EXCEPTIONS:
        return None
    if package in BESIDE or package in ORDER[0]:
        return f"{package} stands beside and imports no other package"
    if other in BESIDE:
        return None if rank(package) >= FIRST_TO_KNOW_THEM else f"{package} knows no {other}"
    if rank(other) > rank(package):
        return f"{other} comes after {package}"
    if rank(other) == rank(package) and package not in ORDER[-1]:
        return f"{other} stands beside {package}"
    return None


def test_every_package_has_a_place_in_the_layout():
    known = BESIDE.union(*ORDER)
    unknown = {package_of(path) for path in modules()} - known - {None}
    assert not unknown, f"give {', '.join(sorted(unknown))} a place in the layout"


@pytest.mark.parametrize(
    ("package", "other", "allowed"),
    [
        ("models", "networks", True),
        ("networks", "models", False),
        ("models", "losses", True),
        ("networks", "data", False),
        ("losses", "layers", False),
        ("data", "evaluation", False),
        ("data", "errors", True),
        ("baselines", "export", False),
        ("commands", "baselines", True),
        ("training", "cli", False),
        ("edge", "data", False),
        ("edge", "evaluation", True),
    ],
)
def test_the_rule_itself(package, other, allowed):
    assert (complaint(package, other) is None) == allowed


def test_the_walk_sees_every_kind_of_import(tmp_path, monkeypatch):
    source = "import agad_tf.models.agad\nfrom agad_tf import AGAD, edge\n"
    source += "def f():\n    from agad_tf.data import quota\n"
    source += "from ..layers import x\nimport numpy\nfrom agad_tf import __version__\n"
    path = tmp_path / "networks" / "a.py"
    path.parent.mkdir()
    path.write_text(source)
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    assert sorted(filter(None, (target(name) for _, name in imported(path)))) == [
        "data",
        "edge",
        "layers",
        "models",
        "models",
    ]


def test_no_import_points_backwards():
    backwards = []
    for path in modules():
        package = package_of(path)
        for line, name in imported(path):
            other = target(name)
            if package is None or other is None:
                continue
            why = complaint(package, other)
            if why:
                backwards.append(f"{path.relative_to(ROOT.parent)}:{line} imports {name}: {why}")
    assert not backwards, "\n".join(backwards)


def test_the_package_knows_no_study():
    # The door of `agad-tf reproduce` opens it by name, where a checkout has one.
    imports = [
        f"{path.name}:{line}"
        for path in modules()
        for line, name in imported(path)
        if name.split(".")[0] == "study"
    ]
    assert not imports


def module_of(path):
    """Dotted name of a file of the package."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def circle(edges):
    """A way through a graph that comes back to where it began, [] where there is none."""
    done = set()

    def visit(name, way):
        if name in way:
            return [*way[way.index(name) :], name]
        if name in done:
            return []
        for other in sorted(edges.get(name, ())):
            found = visit(other, [*way, name])
            if found:
                return found
        done.add(name)
        return []

    return next((found for name in sorted(edges) if (found := visit(name, []))), [])


def test_a_circle_is_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


@pytest.mark.parametrize("folder", ["agad_tf", "study"])
def test_modules_import_each_other_without_circles(folder):
    paths = sorted((ROOT.parent / folder).rglob("*.py"))
    known = {module_of(path) for path in paths} - {"agad_tf"}  # its names load lazily
    edges = {}
    for path in paths:
        # A name of an imported module, or of a package, whose own file it comes from.
        names = (name for _, name in imported(path))
        found = {name if name in known else name.rpartition(".")[0] for name in names}
        edges[module_of(path)] = (found & known) - {module_of(path)}
    assert not circle(edges), " -> ".join(circle(edges))


def without_tensorflow():
    for path in modules():
        package = package_of(path)
        in_data = package == "data" and path.name not in WITH_TENSORFLOW_IN_DATA
        light = {
            "evaluation",
            "identity",
            "pixels",
            "edge",
            "edge_metadata",
            "encoding",
            "errors",
            "serving",
            "scoring",
            "cli",
            "commands",
            None,
        }
        if in_data or package in light:
            yield path


def heavy_at_the_top(path):
    """Lines that import TensorFlow or Keras when the module is loaded."""
    pending = list(ast.parse(path.read_text("utf-8")).body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
        if any(name.split(".")[0] in HEAVY for name in names):
            yield node.lineno
        pending.extend(ast.iter_child_nodes(node))


def test_no_tensorflow_at_the_top_of_light_modules():
    found = [
        f"{path.relative_to(ROOT.parent)}:{line}"
        for path in without_tensorflow()
        for line in heavy_at_the_top(path)
    ]
    assert not found, f"import TensorFlow inside the function that needs it: {', '.join(found)}"


def loaded_by(*names):
    """For each module, what its import in a fresh interpreter has loaded up to then."""
    code = (
        "import importlib, json, sys\nloaded = {}\n"
        f"for name in {list(names)!r}:\n    importlib.import_module(name)\n"
        "    loaded[name] = sorted(sys.modules)\n"
        "print(json.dumps(loaded))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT.parent)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_import_of_the_package_is_light():
    modules_loaded = loaded_by("agad_tf")["agad_tf"]
    heavy = {"tensorflow", "keras", "numpy", "scipy", "sklearn", "matplotlib", "PIL"}
    assert not heavy & {name.split(".")[0] for name in modules_loaded}
    assert len(modules_loaded) < 200


def test_a_board_needs_numpy_only():
    loaded = {name.split(".")[0] for name in loaded_by("agad_tf.edge")["agad_tf.edge"]}
    assert not loaded & {*HEAVY, "scipy", "sklearn", "matplotlib", "PIL", "pandas", "requests"}


def test_light_modules_load_no_tensorflow_through_others():
    names = []
    for path in without_tensorflow():
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    for name, loaded in loaded_by(*names).items():
        assert not HEAVY & {module.split(".")[0] for module in loaded}, f"{name} loads TensorFlow"


def test_lazy_names():
    assert "AGAD" in dir(agad_tf)
    for name in agad_tf._LAZY:
        assert name in agad_tf.__all__
    with pytest.raises(AttributeError, match="no attribute 'agad'"):
        agad_tf.agad  # noqa: B018
