"""One module per verb of the pipeline: each carries the step's RECIPE and the function that does it.

The modules import torch and its friends only when they work, so that planning stays quick.
"""
