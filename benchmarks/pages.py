"""Tables of results in pages of the documentation, between marks."""


def with_table(page: str, name: str, table: str) -> str:
    """The text of a page with another table between `<!-- NAME: begin -->` and `<!-- NAME: end -->`."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, rest = page.split(begin)
    return f"{before}{begin}\n\n{table}\n\n{end}{rest.split(end)[1]}"
