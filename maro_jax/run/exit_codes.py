"""Exit codes of the commands. Any other code is a crash."""

DONE = 0
USAGE = 2  # a wrong flag, file or combination; nothing was written
NOT_FINITE = 3  # training stopped: too many updates in a row were not finite
STORAGE = 74  # the run's folder could not be written: once that is mended, the same command goes on
LOST = 76  # another process of the run is gone: the same command goes on from the last checkpoint
PREEMPTED = 75  # stopped by a signal and saved: the same command goes on
