"""Drivers of real inference programs: launching, calling, aborting, measuring and stopping them.

`protocol` is the contract; `slalom.testing.check_engine` is its executable form. Knows nothing of
scheduling: whoever calls it (the runtime) decides when.
"""
