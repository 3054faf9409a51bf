"""What aliases of kind `confident` save and cost: live on two models, and in the twin.

Owns one benchmark. Run it with `python -m slalom.bench.confidence`.
"""
