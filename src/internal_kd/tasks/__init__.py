"""What a task is: its kind, its facts, how it is scored, and the GLUE tasks.

metrics.py: one definition of each metric; kinds.py: classes, values and tags; tags.py: tags as numbers and as spans;
info.py: a task's facts; glue.py: GLUE's table.
"""
