"""The same scheduler in virtual time: kernel, world, engine model, keyed noise, faults.

Owns no policy and no decision: those are the very objects that serve live. Never sees the
runtime or an engine. Read `run`, then `kernel`, then `world`.
"""
