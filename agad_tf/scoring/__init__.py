"""Scores files with a run, an export or a server: what `agad-tf score` does."""
