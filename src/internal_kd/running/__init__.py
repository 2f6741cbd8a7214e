"""When and where things are made: Snakemake, this machine's GPUs, a cluster's queue."""
