"""The matches that a run is judged by at its end: what they are called, who plays and against whom."""

FINAL_MATCHES = {  # title, who plays, against whom
    "win_rate": ("trained against its warm start", "trained", "warm start"),
    "win_rate_scripted_before": ("warm start against heuristic players", "warm start", "heuristic"),
    "win_rate_scripted_after": ("trained against heuristic players", "trained", "heuristic"),
    "win_rate_random_before": ("warm start against random players", "warm start", "random"),
    "win_rate_random_after": ("trained against random players", "trained", "random"),
}
