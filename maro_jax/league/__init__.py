"""Who plays whom: plans, matches with confidence intervals, and the self-play trainer."""
