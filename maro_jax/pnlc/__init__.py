"""PNLC: a small goal-conditioned critic, trained offline, that tells how a thought will turn out (docs/pnlc.md).

:mod:`transitions` is what it learns from, :mod:`networks` are Q and V, :mod:`value` trains them, :mod:`calibration`
says whether they may be believed, and :mod:`storage` keeps them.
"""
