"""The journal on disk: encoding, writing with bounds, reading, and rebuilding its scheduler.

Live server and twin write the same format; `explain`, replay and the page read it.
"""
