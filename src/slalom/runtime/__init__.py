"""The live world around the core: inbox, driver, supervisor of replicas, data plane.

`driver.Runtime` is the single writer of the scheduler. The gateway calls `Runtime.serve`.
"""
