"""Starting and watching runs; `scans` holds what `sweep.py` is made of."""
