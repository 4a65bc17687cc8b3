"""Does what README and docs/first_steps.md say, line by line, as someone who has just found the project.

    python benchmarks/walk.py --repository DIR_OR_URL --out docs/results/walk.md

In an empty folder it clones the repository, lets `make demo` set up an environment, and gives every shell
line and the Python of both pages to one shell. The images of the pages, parts/ and new_images/, are rendered
plates. `make test` is left out unless `--test` is given. The transcript has the seconds by the clock and the
last lines that each command printed, without paths and names of the machine.
"""

import argparse
import contextlib
import os
import platform
import re
import secrets
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^```(?P<language>sh|python)\n(?P<text>.*?)^```", re.M | re.S)
PAGES = ("README.md", "docs/first_steps.md")
IMAGES = """\
from agad_tf.data.rendered import render, write_folder
kinds = ("burr", "dent", "scratch", "stain")
write_folder(render("plate", 280, dict.fromkeys(kinds, 14), seed=1, size=(240, 320)), "parts")
write_folder(render("plate", 8, dict.fromkeys(kinds, 2), seed=2, size=(240, 320)), "new_images")
"""
TEN_LINES, ELSEWHERE = "python ten_lines.py", "mkdir ../mine && cd ../mine"
SHOWN = 14
"""Lines of a command's output that are kept, the last ones."""


@dataclass(frozen=True)
class Step:
    """A line of a page; `asked` is how it is shown, `line` what the shell is given."""

    page: str
    asked: str
    line: str


def steps_of(root: Path, repository: str) -> list[Step]:
    """The lines of both pages in the order of a reader: installation, README, the rest of first steps."""
    readme, first = (
        [
            (page, found["language"], found["text"])
            for found in FENCE.finditer((root / page).read_text("utf-8"))
        ]
        for page in PAGES
    )
    steps = []
    for page, language, text in (*first[:1], *readme):
        if language == "python":
            steps.append(Step(page, TEN_LINES, f"cat > ten_lines.py <<'EOF'\n{text}EOF\n{TEN_LINES}"))
        else:
            done = {step.asked for step in steps}
            steps += [step for step in lines_of(page, text, repository) if step.asked not in done]
    # Both pages name the same folders: a reader of the second begins in one of his own.
    steps.append(Step(PAGES[1], ELSEWHERE, ELSEWHERE))
    for page, _, text in first[1:]:
        steps += lines_of(page, text, repository)
    return steps


def lines_of(page: str, text: str, repository: str) -> list[Step]:
    """The lines of a shell block; those that train on `parts` get it before."""
    steps = []
    for line in text.splitlines():
        asked = re.sub(r"\s+#.*$", "", line).strip()
        if asked.startswith("agad-tf train --data parts"):
            steps.append(
                Step(page, "(parts/ and new_images/ are rendered)", f"python - <<'EOF'\n{IMAGES}EOF")
            )
        if asked:
            steps.append(Step(page, asked, asked.replace("REPOSITORY", repository)))
    return steps


class Shell:
    """One shell that is given lines: a changed folder and an activated environment stay."""

    def __init__(self, folder: Path):
        environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
        environment.pop("PYTHONPATH", None)
        self.process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, line: str) -> tuple[int, float, str]:
        """Exit status, seconds and what was printed."""
        mark = f"end-{secrets.token_hex(8)}"
        began = time.perf_counter()
        self.process.stdin.write(f"{{ {line}\n}} </dev/null\nprintf '\\n{mark} %s\\n' $?\n")
        self.process.stdin.flush()
        printed = []
        for out in self.process.stdout:
            if out.startswith(mark):
                return int(out.split()[1]), time.perf_counter() - began, "".join(printed).rstrip("\n")
            printed.append(out)
        raise SystemExit(f"expected the shell to go on after {line!r}, it ended")


def cleaned(text: str, hidden: dict[str, str]) -> str:
    """What was printed, without progress that was overwritten and without places of this machine.

    Args:
        text: what a command printed.
        hidden: what must not be shown, to what stands for it; longer ones are replaced first.
    """
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    lines = [line.rstrip("\r").split("\r")[-1] for line in text.split("\n")]
    text = "\n".join(line.rstrip() for line in lines)
    for words in sorted(hidden, key=len, reverse=True):
        text = text.replace(words, hidden[words])
    return text


def transcript(walked: list[tuple[Step, int, float, str]], left_out: list[Step]) -> str:
    """The page: a table of lines with their seconds, then what each printed."""
    lines = [
        f"Python {platform.python_version()}, {os.cpu_count()} cores shared with other work (load "
        f"{os.getloadavg()[0]:.0f} at the end), no GPU. Seconds by the clock.",
        "",
        "| page | line | seconds | exit status |",
        "|---|---|---|---|",
    ]
    for step, status, seconds, _ in walked:
        shown = step.asked if step.asked.startswith("(") else f"`{step.asked}`".replace("|", "\\|")
        lines.append(f"| {step.page} | {shown} | {seconds:.1f} | {status} |")
    lines += ["", *(f"Left out: `{step.asked}` of {step.page}." for step in left_out), ""]
    for step, _, _, printed in walked:
        shown = printed.split("\n")
        shown = ["..."] * (len(shown) > SHOWN) + shown[-SHOWN:]
        lines += ["```text", f"$ {step.asked}", *filter(None, shown), "```", ""]
    return "\n".join(lines)


def main() -> None:
    """Walks and writes the transcript; exits with 1 where a line failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repository", default=".", help="what is cloned: a folder or an address")
    parser.add_argument("--out", type=Path, help="page whose transcript is replaced")
    parser.add_argument("--folder", type=Path, help="empty folder to walk in  [default: one that is removed]")
    parser.add_argument("--test", action="store_true", help="walk `make test` too")
    given = parser.parse_args()
    from pages import with_table

    repository = given.repository
    if Path(repository).exists():
        repository = str(Path(repository).resolve())
    root = Path(__file__).resolve().parents[1]
    with contextlib.ExitStack() as stack:
        folder = given.folder or stack.enter_context(tempfile.TemporaryDirectory())
        hidden = {
            str(Path(folder).resolve()): "~",
            str(folder): "~",
            repository: "REPOSITORY",
            str(Path.home()): "~",
            socket.gethostname(): "HOST",
        }
        shell, walked, left_out = Shell(Path(folder)), [], []
        for step in steps_of(root, repository):
            if step.asked == "make test" and not given.test:
                left_out.append(step)
                continue
            status, seconds, printed = shell.run(step.line)
            walked.append((step, status, seconds, cleaned(printed, hidden)))
            print(f"{seconds:7.1f} s, {status}: {step.asked}", flush=True)
            if status:
                print(printed, flush=True)
        page = transcript(walked, left_out)
    if given.out is None:
        print(page)
    else:
        given.out.write_text(with_table(given.out.read_text("utf-8"), "walk", page.rstrip("\n")), "utf-8")
    raise SystemExit(int(any(status for _, status, _, _ in walked)))


if __name__ == "__main__":
    main()
