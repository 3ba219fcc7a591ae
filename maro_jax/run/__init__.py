"""What surrounds a job: configuration, run directory, checkpoints, signals, console, HTML replay.

A leaf: nothing here imports another package of this project, and nothing but `checkpoint` imports
a framework, so that a wrong flag is answered at once.
"""
