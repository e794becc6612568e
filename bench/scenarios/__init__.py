"""One function per group of lines of the table; each adds to `Bench.results`."""
