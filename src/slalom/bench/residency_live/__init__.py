"""`make bench-residency-live`: residency policies compared on real engines, and by the twin.

Owns the models, the load, the runs and the page. Every policy gets a server of its own, one after
the other, under a memory budget for about half of the models. Called from the command line.
"""
