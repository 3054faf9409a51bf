"""Policies: pure decisions over read-only views, selectable by name.

To add one: write its class and its options in a module here, and one row in `registry`.
"""
