"""Benchmarks and the demo: programs that measure Slalom and print what they found."""
