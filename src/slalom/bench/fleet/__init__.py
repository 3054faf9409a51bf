"""The benchmark of fleets: routing, placement and scaling in the twin.

Owns the loads, the rows and the page; run it with `python -m slalom.bench.fleet`.
"""
