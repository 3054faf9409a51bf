"""The typing simulator: people type real files, and their editors ask at every keystroke.

Owns typists, their files and rhythm, the background beside them, the figures and the page. Called
by `slalom bench type`.
"""
