"""The study: the papers' tables and our experiments, what the pages in `docs/results` were made with."""
