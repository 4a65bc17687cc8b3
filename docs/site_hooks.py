"""MkDocs hooks: links out of docs/ lead to copies in the site; the commands' help is a page.

Pages are written for reading in the repository, where `../benchmarks/README.md` is a file. The site has no
such file, so each one that is linked is put into it under repository/.
"""

import re
from pathlib import Path, PurePosixPath

import click
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
OUTSIDE = "repository"
"""Folder of the site with files from outside of docs/."""

LINK = re.compile(r"(\]\()((?:\.\./)+[^)#\s]+)")


def leaves(node) -> list[str]:
    """The pages of a navigation."""
    if isinstance(node, str):
        return [node]
    children = node.values() if isinstance(node, dict) else node
    return [leaf for child in children for leaf in leaves(child)]


def on_config(config):
    """Puts pages that mkdocs.yml does not name behind those that it names."""
    named = set(leaves(config.nav))
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in sorted((ROOT / "docs").rglob("*.md"))]
    # Pages of results are reached from the first of them.
    more = [page for page in pages if page not in named and not page.startswith("results/")]
    if more:
        config.nav = [*config.nav, {"More": more}]
    return config


def outside(page: str, link: str) -> Path | None:
    """The file of the repository that a link of a page leads to, where that lies outside of docs/."""
    target = (ROOT / "docs" / PurePosixPath(page).parent / link).resolve()
    inside = target.is_relative_to(ROOT / "docs") or not target.is_relative_to(ROOT)
    return None if inside or not target.is_file() else target


def on_files(files, config):
    """Adds the files outside of docs/ that pages link to, and the page of commands."""
    wanted = {ROOT / "benchmarks/README.md"}
    for file in files.documentation_pages():
        text = Path(file.abs_src_path).read_text("utf-8")
        found = (outside(file.src_uri, link) for _, link in LINK.findall(text))
        wanted.update(path for path in found if path is not None)
    for path in sorted(wanted):
        files.append(
            File.generated(config, f"{OUTSIDE}/{path.relative_to(ROOT).as_posix()}", abs_src_path=str(path))
        )
    files.append(File.generated(config, "reference/commands.md", content=commands_page()))
    return files


def on_page_markdown(markdown, page, config, files):
    """Points links out of docs/ to the copies."""
    uri = page.file.src_uri
    depth = len(PurePosixPath(uri).parts) - 1
    if uri.startswith(f"{OUTSIDE}/"):
        # Such a page lies one folder deeper than in the repository; what it links to may not be in the site.
        return re.sub(r"\[([^\]]+)\]\((?!http)[^)]+\)", r"\1", markdown)

    def moved(match):
        path = outside(uri, match[2])
        if path is None:
            return match[0]
        return f"{match[1]}{'../' * depth}{OUTSIDE}/{path.relative_to(ROOT).as_posix()}"

    return LINK.sub(moved, markdown)


def commands_page() -> str:
    """The help of every command."""
    from agad_tf.cli import CONTEXT, main
    from agad_tf.commands.reproduce import study_command

    settings = {name: value for name, value in CONTEXT.items() if name != "help_option_names"}
    parts = ["# Commands\n\nWhat `agad-tf COMMAND --help` prints.\n"]
    for name, command in sorted((main.commands | {"reproduce": study_command()}).items()):
        context = click.Context(command, info_name=f"agad-tf {name}", terminal_width=100, **settings)
        parts.append(f"## {name}\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)
