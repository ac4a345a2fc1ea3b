"""One patient's chart: what is searched, what comes of it, and what is decided from it."""
