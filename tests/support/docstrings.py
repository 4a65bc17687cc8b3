"""What the docstrings of arguments say."""

import inspect
import re


def documented(function):
    """Argument name to its text in the Args section."""
    text = inspect.getdoc(function).split("Args:")[1]
    text = re.split(r"\n(?:Returns|Raises|Attributes|Source):", text)[0]
    entries = re.findall(r"^ {4}(\w[\w, ]*): (.*(?:\n {8,}.*)*)", text, re.M)
    return {name: words for names, words in entries for name in names.split(", ")}
