"""Which samples train, are held out and are tested: index arrays; no content on two sides."""
