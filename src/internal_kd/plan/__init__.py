"""From parameters to exact runs: what is needed, by which fingerprint, where it lies. Imports no torch."""
