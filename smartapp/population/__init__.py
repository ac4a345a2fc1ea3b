"""A whole population: sources, shards, the same rule as the page, rows, and what the next night needs."""
