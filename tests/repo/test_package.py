"""Wheel and source archive: built, checked, whole, and enough to run the demo."""

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import agad_tf

ROOT = Path(__file__).resolve().parents[2]


def run(*command, cwd=ROOT, **settings):
    result = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, **settings
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


def requirements(name):
    """Package name to version of a file of exact versions."""
    lines = (ROOT / name).read_text("utf-8").splitlines()
    pinned = [re.match(r"([\w.-]+)(?:\[[\w,-]+\])?==(\S+)", line) for line in lines]
    return {match[1].casefold(): match[2] for match in pinned if match}


def ranges():
    """Package name to the range in setup.py, extras too."""
    text = (ROOT / "setup.py").read_text("utf-8")
    return {
        match[1].casefold(): match[2]
        for match in re.finditer(r'"([\w.-]+)(?:\[[\w,-]+\])?((?:[><=]=?[\d.]+,?)+)"', text)
    }


def lies_in(version, bounds):
    from packaging.specifiers import SpecifierSet

    return version in SpecifierSet(bounds)


# -- fast


def test_the_version_has_a_section_in_the_changelog():
    assert re.search(rf"^## {re.escape(agad_tf.__version__)}\b", (ROOT / "CHANGELOG.md").read_text(), re.M)


def test_every_requirement_has_a_range_and_is_pinned_inside_it_with_its_licence():
    pinned, allowed = requirements("requirements.txt"), ranges()
    for name, bounds in allowed.items():
        assert name in pinned, f"requirements.txt has no {name}"
        assert lies_in(pinned[name], bounds), f"{name} {pinned[name]} is outside of {bounds}"
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            assert re.search(r"==\S+\s+# \S", line), f"no licence: {line}"


def test_the_lowest_versions_are_those_of_the_ranges():
    allowed = ranges()
    for name, version in requirements("requirements-lowest.txt").items():
        assert lies_in(version, allowed[name]), f"{name} {version} is outside of {allowed[name]}"
        least = re.search(r">=([\d.]+)", allowed[name])[1]
        assert version.split(".")[:2] == [*least.split("."), "0"][:2], f"{name}: {version} is not {least}"


def test_the_wheel_is_built_by_a_backend_that_knows_licence_expressions():
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]
    assert build["build-backend"] == "setuptools.build_meta"
    assert 'license="Apache-2.0"' in (ROOT / "setup.py").read_text()


# -- slow: built from a clean copy, installed into a fresh environment


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """The wheel and the source archive of what git knows, and of what is new beside it."""
    source = tmp_path_factory.mktemp("source")
    if not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout: the files that belong to the project are those that git lists")
    names = run("git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    for name in names:
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", out, source, cwd=source)
    (wheel,), (archive,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return wheel, archive, names


@pytest.mark.slow
def test_twine_accepts_both(dist):
    wheel, archive, _ = dist
    assert "PASSED" in run(sys.executable, "-m", "twine", "check", "--strict", wheel, archive)


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(dist):
    wheel, _, names = dist
    held = set(zipfile.ZipFile(wheel).namelist())
    wanted = {name for name in names if name.startswith("agad_tf/") and (ROOT / name).is_file()}
    assert wanted <= held, sorted(wanted - held)
    others = {name for name in held - wanted if ".dist-info/" not in name}
    assert not others, sorted(others)


@pytest.mark.slow
def test_the_source_archive_holds_tests_docs_and_notebooks(dist):
    _, archive, names = dist
    with tarfile.open(archive) as content:
        held = {name.partition("/")[2] for name in content.getnames()}
    for name in names:
        if name.split("/")[0] in ("agad_tf", "tests", "docs", "notebooks", "benchmarks", "serving", "study"):
            assert name in held or not (ROOT / name).is_file(), name
    assert {"README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile"} <= held


@pytest.mark.slow
def test_the_wheel_alone_runs_the_demo(dist, tmp_path):
    wheel, _, _ = dist
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    python, command = tmp_path / "venv/bin/python", tmp_path / "venv/bin/agad-tf"
    exact = [f"{name}=={version}" for name, version in requirements("requirements.txt").items()]
    (tmp_path / "exact.txt").write_text("\n".join(exact))
    run(python, "-m", "pip", "install", "--quiet", "-c", tmp_path / "exact.txt", wheel, cwd=tmp_path)
    assert agad_tf.__version__ in run(command, "--version", cwd=tmp_path)
    said = run(command, "demo", "--epochs", 2, "--quiet", "--set", "image_size=32", cwd=tmp_path)
    assert " agree " in said
    assert (tmp_path / "saved_models/demo/1/saved_model.pb").is_file()
