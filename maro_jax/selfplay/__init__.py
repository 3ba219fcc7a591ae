"""The fused loop that drives games, text and policy, and the episodes it returns."""
