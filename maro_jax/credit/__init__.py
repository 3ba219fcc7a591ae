"""Credit: from the outcome of an episode to a sign and a weight for each behaviour.

Three switches, one file each: :mod:`decomposition` (the outcome becomes a return for each
behaviour), :mod:`balance` (returns become advantages and role-balanced weights; :mod:`deals`
compares results of the same deal instead) and :mod:`utility` (each behaviour is judged by
itself). :mod:`objective` puts them together.
``docs/credit.md`` has the formulas on one page and says which part is our reading.

Everything is a pure function of padded arrays `[E, B]` (E episodes, B decision slots): it
runs under `jax.jit`, with E sharded over a mesh axis, and knows nothing of games or models.
"""

from maro_jax.credit.balance import BalanceStatistics
from maro_jax.credit.decomposition import Forked
from maro_jax.credit.objective import (
    OPTIONS,
    BehaviourCredit,
    CreditOptions,
    behaviour_loss,
    credit,
    metrics,
)
from maro_jax.credit.utility import REFERENCE_POINTS, mismatched_reference_point, token_kl

__all__ = [
    "OPTIONS",
    "REFERENCE_POINTS",
    "BalanceStatistics",
    "BehaviourCredit",
    "CreditOptions",
    "Forked",
    "behaviour_loss",
    "credit",
    "metrics",
    "mismatched_reference_point",
    "token_kl",
]
