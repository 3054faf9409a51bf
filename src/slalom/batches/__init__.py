"""Batches: files of requests that are answered when there is room, each line exactly once.

Owns the stored files, the ledger of batches and their results, the reading of their lines and
the pace at which lines are started. Does not know HTTP, keys or the scheduler: the gateway says
who may see what, and answers the lines. Built by the assembly.
"""
