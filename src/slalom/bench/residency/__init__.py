"""`make bench-residency`: every residency policy on scenarios with more models than memory.

Owns the runs, the page and its figures. Everything is played in the twin, but for the cost of a
decision. Called from the command line.
"""
