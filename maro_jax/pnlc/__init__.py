"""PNLC: a small goal-conditioned critic, trained offline, that tells how a thought will turn out (docs/pnlc.md).

:mod:`collect` plays games with thoughts, :mod:`states` puts what an actor saw into words, :mod:`embedders` make vectors
of words, and :mod:`labelling` makes :mod:`transitions` of games; :mod:`networks` are Q and V, :mod:`value` trains them,
:mod:`calibration` says whether they may be believed, and :mod:`storage` keeps them. :mod:`training` is all of it.

In play :mod:`critic` judges thoughts, :mod:`actors` (and :mod:`api_actor`) propose and follow them, :mod:`agents`
choose among them, and :mod:`contest` compares agents; :mod:`evaluate` is all of that.
"""
