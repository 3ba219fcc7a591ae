"""The parts of `launch/sweep.py`: grids, runs and their records, runners, statistics, tables and curves."""
