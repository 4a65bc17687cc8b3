"""The walk through README and first steps: its lines are the pages', and its transcript shows no machine."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import walk  # noqa: E402

PAGE = ROOT / "docs/results/walk.md"


def test_the_lines_are_those_of_the_pages_in_their_order():
    steps = walk.steps_of(ROOT, "https://somewhere/agad_tf")
    asked = [step.asked for step in steps]
    assert asked[:2] == ["git clone REPOSITORY agad_tf && cd agad_tf", "make demo"]
    assert steps[0].line == "git clone https://somewhere/agad_tf agad_tf && cd agad_tf"
    assert asked.count("make demo") == 1
    for page in walk.PAGES:
        text = (ROOT / page).read_text("utf-8")
        shown = [step.asked for step in steps if step.page == page]
        assert any(line.startswith("agad-tf train") for line in shown)
        for line in re.findall(r"^(agad-tf [^#\n]*)", text, re.M):
            assert line.strip() in asked, f"{page}: {line}"


def test_a_shell_keeps_its_folder_and_tells_statuses(tmp_path):
    shell = walk.Shell(tmp_path)
    assert shell.run("mkdir inner && cd inner && NAME=kept")[0] == 0
    status, seconds, printed = shell.run("pwd; echo $NAME; ls nothing >&2; false")
    assert (status, printed.split("\n")[:2]) == (1, [str(tmp_path / "inner"), "kept"])
    assert "nothing" in printed
    assert 0 < seconds < 60
    assert shell.run("cat > file <<'EOF'\nwords\nEOF\ncat file")[2] == "words"


def test_progress_colours_and_places_are_not_shown():
    printed = "1 %\r50 %\r100 %\n\x1b[1mbold\x1b[0m /tmp/x/agad_tf/runs on box"
    assert (
        walk.cleaned(printed, {"/tmp": "TMP", "/tmp/x": "~", "box": "HOST"})
        == "100 %\nbold ~/agad_tf/runs on HOST"
    )


def test_the_committed_transcript_is_whole_and_names_no_machine():
    text = PAGE.read_text("utf-8")
    rows = re.findall(r"^\| (\S+) \| (.+) \| \d+\.\d \| (\d+) \|$", text, re.M)
    walked = {line.strip("`") for _, line, _ in rows}
    wanted = [step.asked for step in walk.steps_of(ROOT, "") if step.asked != "make test"]
    assert walked == set(wanted), "give the lines again: python benchmarks/walk.py"
    assert {status for *_, status in rows} == {"0"}
    assert not re.search(r"(?<![\w.~])/(?:home|root|tmp|work|Users|opt|var)/", text)
    assert not re.search(r"\b\d+\.\d+\.\d+\.\d+\b|file://|Traceback", text)
