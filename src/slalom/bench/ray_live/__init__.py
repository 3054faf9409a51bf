"""The same load by Ray Serve, by Slalom on Ray and by Slalom alone, on engines of one kind.

Owns the live half of the benchmark of fleets; the twin's half is `bench.fleet`. Run it with
`make bench-ray`.
"""
