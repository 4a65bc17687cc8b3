"""The study: what the results in `docs/results` were made with."""
