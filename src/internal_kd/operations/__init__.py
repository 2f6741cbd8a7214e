"""The pipeline's outside: the command line, what the Snakefile asks, locks, progress, clearing up."""
