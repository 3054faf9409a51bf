"""Chains of calls on a live server, told and not told, beside people's own requests.

Owns one benchmark. Run it with `python -m slalom.bench.chains`.
"""
