"""The one place where live parts meet: configuration in, running server out.

Called by the command line and by benchmarks; nothing below imports it.
"""
