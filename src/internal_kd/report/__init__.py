"""The analysis of a study: tables, figures and the report, from finished runs alone.

``make`` has the steps; everything in between is a frame (``frames``).
"""
