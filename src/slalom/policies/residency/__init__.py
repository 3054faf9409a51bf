"""Residency policies: which replicas give way to a model that needs memory.

Owns the policies of that slot. The core offers only replicas that may go and books the bytes.
"""
