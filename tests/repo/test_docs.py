"""The documentation is true: links lead somewhere, command lines parse, code blocks run, the site builds.

A block that cannot run says why in a comment above it, `<!-- not run: REASON -->`. What a page's Python
blocks take for granted (a model, a folder of images) is made in `prepared` here.
"""

import ast
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from agad_tf.cli import main

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]

FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)```", re.M | re.S)
INDENTED = re.compile(r"(?:^    (?:agad-tf|python) .+\n?)+", re.M)
NOT_RUN = re.compile(r"<!-- not run: (?P<reason>[^>]{10,}) -->\s*\Z")
LINK = re.compile(r"\]\((?!https?://|mailto:|#)([^)\s#]+)[^)]*\)")


@dataclass(frozen=True)
class Block:
    """A code block of a page."""

    page: Path
    line: int
    language: str
    text: str
    reason: str | None  # why it is not run

    def __str__(self):
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page):
    text = page.read_text("utf-8")
    for match in FENCE.finditer(text):
        marked = NOT_RUN.search(text[: match.start()])
        yield Block(
            page,
            text.count("\n", 0, match.start()) + 1,
            match["language"],
            match["text"],
            marked and marked["reason"],
        )
    for match in INDENTED.finditer(FENCE.sub(lambda m: "\n" * m[0].count("\n"), text)):
        yield Block(page, text.count("\n", 0, match.start()) + 1, "", match[0], None)


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def command_lines(block):
    """The commands of a shell block, whole lines, without comments, prompts, pipes and redirections."""
    if block.language not in ("sh", "bash", "shell", "console", ""):
        return
    text = re.sub(r"\s*\\\n\s*", " ", block.text)
    for line in text.splitlines():
        line = re.sub(r"\s#.*$", "", line.strip()).removeprefix("$ ")
        for part in re.split(r"\s(?:&&|\|)\s", line):
            yield re.split(r"\s[<>]", part)[0].strip()


def lines_with(start):
    return [(block, line) for block in BLOCKS for line in command_lines(block) if line.startswith(start)]


def named(cases):
    return [pytest.param(*case, id=f"{case[0]} {case[1][:40]}") for case in cases]


# -- fast: nothing is run ----------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page):
    text = FENCE.sub("", page.read_text("utf-8"))
    generated = {ROOT / "docs/reference/commands.md"}
    for link in LINK.findall(text):
        target = (page.parent / link).resolve()
        assert target.exists() or target in generated, f"{page.relative_to(ROOT)} links to {link}"


def parse(line):
    """Parses an `agad-tf` command line without running it."""
    words = [re.sub(r"^\[|\]$", "", word) for word in shlex.split(line)[1:]]
    if not words or words[0].startswith("-"):
        return
    command = main.get_command(click.Context(main), words[0])
    assert command is not None, f"there is no command {words[0]}"
    if words[1:] not in (["COMMAND"], ["--help"]):
        command.make_context(words[0], words[1:])


@pytest.mark.parametrize(
    ("block", "line"),
    named((block, line) for block, line in lines_with("agad-tf ") if not re.search(r"\.\.\.|: ", line)),
)
def test_commands_are_ones_there_are(block, line):
    if line.split()[1] != "COMMAND":
        parse(line)


@pytest.mark.parametrize(("block", "line"), named(lines_with("python ")))
def test_scripts_and_modules_have_the_options_that_are_shown(block, line):
    words = [word for word in shlex.split(line)[1:] if word != "-u"]
    if words[0] == "-m":
        name, words = words[1], words[2:]
        if name.split(".")[0] != "agad_tf":
            return
        path = ROOT.joinpath(*name.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    elif words[0] == "-c":
        return
    else:
        path, words = ROOT / words[0], words[1:]
    source = path.read_text("utf-8")
    imported = re.findall(r"from (agad_tf[\w.]*) import|import (agad_tf[\w.]*)", source)
    for name in {first or second for first, second in imported}:
        module = ROOT.joinpath(*name.split(".")).with_suffix(".py")
        source += module.read_text("utf-8") if module.is_file() else ""
    for word in words:
        if word.startswith("--") and "$" not in word:
            option = word.split("=")[0]
            # "--on/--off" declares both.
            assert re.search(rf'["/]{option}["/]', source), (
                f"{block}: {path.relative_to(ROOT)} has no {option}"
            )


@pytest.mark.parametrize(("block", "line"), named(lines_with("make ")))
def test_make_targets_are_ones_there_are(block, line):
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    assert set(word for word in shlex.split(line)[1:] if "=" not in word) <= set(targets)


def test_python_blocks_are_python():
    for block in BLOCKS:
        if block.language == "python":
            ast.parse(block.text, str(block))


def test_readme_is_short_and_shows_what_comes_out():
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.splitlines()) <= 150
    assert "![" in text
    (code,) = (block for block in blocks_of(ROOT / "README.md") if block.language == "python")
    statements = [line for line in code.text.splitlines() if line.strip() and not line.startswith("#")]
    assert len(statements) <= 12


def test_figures_of_the_summary_are_those_of_the_results():
    """Rows of the summary beside columns of the generated page, and the isolation forest's generated row."""

    def cells(line):
        return [cell.strip() for cell in line.strip().strip("|").split("|")]

    def row(text, name):
        (line,) = (line for line in text.splitlines() if line.startswith(f"| {name}"))
        return cells(line)[1:]

    text = (ROOT / "docs/results/summary.md").read_text("utf-8")
    page = (ROOT / "docs/results/aa_bigan_table2.md").read_text("utf-8")
    sets = row(text, "tables, 1 % labelled anomalies, 10 seeds")
    header = next(cells(line)[1:] for line in page.splitlines() if line.startswith("| table | seeds |"))
    for name, column in (
        ("AA-BiGAN, last step", "last"),
        ("AA-BiGAN, selected", "all_labels"),
        ("the paper,", "paper's AA-BiGAN"),
    ):
        at = header.index(column)
        for figure, of in zip(row(text, name), sets, strict=True):
            tables = [line for line in page.splitlines() if line.startswith(f"| {of} | 10 |")]
            assert cells(tables[0])[1:][at].split(" ")[0] == figure, (name, of)
    results = (ROOT / "docs/results/README.md").read_text("utf-8")
    forests = [line for line in results.splitlines() if line.startswith("| Isolation forest |")]
    assert row(text, "isolation forest, no anomalies") == cells(forests[0])[1:]
    deep_sad = next(line for line in results.splitlines() if line.startswith("| Deep SAD |"))
    assert row(text, "Deep SAD, last epoch") == [cell.split(" ")[0] for cell in cells(deep_sad)[1:]]
    classes = row(text, "AGAD, `encoder_decoder`, 4 epochs")
    naive = "agad (encoder_decoder)"
    for name, gamma, method, length in (
        ("normal images alone", "– | 0", naive, "4"),
        ("with 5 % labelled", "all | 0.05", f"{naive}, fused score", "4"),
        ("one-class SVM on pixels", "– | 0", "oc_svm", "1"),
        ("isolation forest on pixels", "– | 0", "isolation_forest", "1"),
    ):
        for figure, of in zip(row(text, name), classes, strict=True):
            data, label = of.replace("Fashion-", "fashion_").lower().replace(" ", " | ").split(" | ")
            start = f"| {data} | {label} | {gamma} | {method} |"
            (line,) = {line for line in results.splitlines() if line.startswith(start)}
            _, epochs, runs, last = cells(line)[5:9]
            assert (epochs, runs) == (length, "3")
            assert last.split(" ")[0] == figure.split(" ")[0], (name, of)


def test_figures_of_the_readme_are_those_of_the_results():
    """Each cell holds the labelled and the unseen kinds of a row and a column of the results."""

    def rows(path):
        lines = (ROOT / path).read_text("utf-8").splitlines()
        return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines if "|" in line]

    def shown(start):
        (found,) = (cells for cells in rows("README.md") if cells[0] == start)
        return found[1:]

    unseen = rows("docs/results/unseen.md")
    head = next(cells for cells in unseen if cells[0] == "normal")
    columns = ("oc_svm, no labels", "classifier, labels", "agad, labels", "features, pretrained, labels")
    for name in ("MNIST 8", "Fashion-MNIST 8"):
        kinds = [cells for cells in unseen if cells[0] == name]
        assert [cells[1] for cells in kinds] == ["known", "unseen"]
        for told, column in zip(shown(name), columns, strict=True):
            assert told == " / ".join(cells[head.index(column)] for cells in kinds)
    cells = next(row for row in rows("docs/results/features.md") if row[:3:2] == ["elpv_mono", "yes"])
    assert shown("solar cells") == ["–", "–", "–", f"{cells[4]} / {cells[5]}"]


def test_the_navigation_names_pages_that_exist():
    nav = re.findall(r"^ +- (?:[\w -]+: )?([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M)
    assert len(nav) > 15
    generated = {"reference/commands.md", "repository/benchmarks/README.md"}
    for page in set(nav) - generated:
        assert (ROOT / "docs" / page).is_file(), page


def test_results_name_every_page_of_results():
    text = (ROOT / "docs/results/README.md").read_text("utf-8")
    for page in (ROOT / "docs/results").glob("*.md"):
        assert page.name == "README.md" or page.name in text, f"docs/results/README.md has no {page.name}"


# -- slow: code is run -------------------------------------------------------------------------------------


def digits_folder(folder, normals=320, anomalies=40):
    """normal/ and anomaly/ with digits as PNG, as `parts/` in the documentation."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images * (255 / 16)).astype(np.uint8)
    good, bad = np.flatnonzero(digits.target < 2), np.flatnonzero(digits.target > 7)
    for kind, rows, count in (("normal", good, normals), ("anomaly", bad, anomalies)):
        (folder / kind).mkdir(parents=True)
        for row in rows[:count]:
            Image.fromarray(images[row]).save(folder / kind / f"{row:04d}.png")
    return images


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty folder to run a page's code in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def prepared(name, folder, request):
    """What the Python blocks of a page take for granted, by page."""
    import keras
    import tensorflow as tf

    import agad_tf

    space = {"agad_tf": agad_tf, "keras": keras, "np": np, "tf": tf}
    rng = np.random.default_rng(0)
    if name == "docs/data.md":
        digits_folder(folder / "photos")
        result = CliRunner().invoke(main, ["prepare", "photos", "shards/photos", "--quiet"])
        assert result.exit_code == 0, result.output
    if name == "docs/thresholds.md":
        space |= {"scores_of_held_out_normals": rng.normal(size=200), "new_scores": rng.normal(size=9)}
    if name == "docs/reference/layers_and_losses.md":
        space["features"] = tf.constant(rng.normal(size=(4, 8, 8, 3)), tf.float32)
    if name in (
        *("docs/methods.md", "docs/baselines.md", "docs/training.md"),
        *("docs/results/selection.md", "docs/reference/layers_and_losses.md"),
    ):
        images = rng.integers(0, 256, (48, 32, 32, 1), np.uint8)
        space |= {"samples": images, "images": images, "x": images, "new_samples": images[:4]}
        labels = np.arange(48) % 8 == 0
        space |= {"labels": labels, "y": labels, "held_out_normals": images[:16]}
    if name in ("docs/results/selection.md", "docs/training.md"):
        space["model"] = agad_tf.AGAD((32, 32, 1), backbone="encoder_decoder")
        space["model"].compile()
    if name == "docs/serving.md":
        from loopback_server import Models, loopback

        from agad_tf.evaluation.thresholds import calibrate
        from agad_tf.export.saved_model import export_saved_model

        model = agad_tf.AGAD((8, 8, 1), backbone="encoder_decoder", score="reconstruction")
        images = digits_folder(folder / "parts")
        Image.fromarray(images[0]).save("a.png")
        Image.fromarray(images[1]).save("b.jpg")
        normals = np.sort(model.predict(images[:40, ..., None], verbose=0))
        export_saved_model(model, folder / "demo", calibrate(normals))
        server = loopback(Models({"demo": folder / "demo"}))
        space["SERVER"] = server.__enter__().rest
        request.addfinalizer(lambda: server.__exit__(None, None, None))
    return space


SMALLER = {
    "agad_tf.AGAD((128, 128, 3))": 'agad_tf.AGAD((32, 32, 1), backbone="encoder_decoder")',
    "batch_size=512, min_anomalies=64": "batch_size=32, min_anomalies=8",
    "epochs=40": "epochs=2",
    "epochs=100": "epochs=2",
    "epochs=300": "epochs=2",
}
"""What takes long on a CPU is run like this instead."""


def pages_with_python():
    for page in PAGES:
        if any(block.language == "python" and block.reason is None for block in blocks_of(page)):
            yield page


@pytest.mark.slow
@pytest.mark.parametrize("page", pages_with_python(), ids=lambda page: str(page.relative_to(ROOT)))
def test_python_blocks_run(page, workplace, request):
    space = prepared(str(page.relative_to(ROOT)), workplace, request)
    for block in blocks_of(page):
        if block.language != "python":
            continue
        if block.reason is not None:
            print(f"{block} is not run: {block.reason}")
            continue
        code = block.text.replace("http://localhost:8501", space.get("SERVER", "http://localhost:8501"))
        for large, small in SMALLER.items():
            code = code.replace(large, small)
        # Line numbers of a traceback are those of the page.
        exec(compile("\n" * block.line + code, str(page), "exec"), space)


FAST = {"--backbone": "encoder_decoder", "--image-size": "8", "--epochs": "1", "--min-anomalies": "8"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["README.md", "docs/first_steps.md"])
def test_shell_blocks_run(name, workplace):
    digits_folder(workplace / "parts")
    digits_folder(workplace / "new", 5, 5)
    (workplace / "new" / "normal").rename(workplace / "new_images")
    # What is redirected into a file is not written when a line is run.
    (workplace / "my.yaml").write_text(CliRunner().invoke(main, ["settings"]).stdout)
    ran = []
    for block in blocks_of(ROOT / name):
        for line in command_lines(block):
            if not line.startswith("agad-tf ") or block.reason is not None:
                continue
            words = shlex.split(line)[1:]
            if words[0] == "train":  # as written, but for what takes long: of an option twice the last counts
                words += [word for option in FAST.items() for word in option]
                words += ["--set", "validation=0.2", "--quiet"]
            result = CliRunner().invoke(main, words)
            assert result.exit_code == 0, f"{block}: {line}\n{result.output}{result.exception!r}"
            ran.append(words[0])
    assert {"train", "evaluate", "score"} <= set(ran)


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    reference = (tmp_path / "reference/models/index.html").read_text()
    assert "contextual_adversarial_weight" in reference
    assert "agad-tf train" in (tmp_path / "reference/commands/index.html").read_text()
    assert (tmp_path / "repository/benchmarks/index.html").is_file()
