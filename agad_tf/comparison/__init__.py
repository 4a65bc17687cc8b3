"""Several detectors on one split: a table, a page, and which one to take, chosen without a test label."""
