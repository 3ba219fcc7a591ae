"""Part 2, balance: returns become advantages and weights under which no role is drowned.

Two switches. The *baseline* b, a function of facts known before the action, gives
A = G − b; sign(A) is the behaviour's label, and A = 0 drops out (but with `dro`). The *weight* is

==============  ==================  ====================================================
name            w                   meaning
==============  ==================  ====================================================
`none`          |A|                 the policy gradient's own weight
`role`          ω_ρ |A|             roles weigh the same however often they act
`role_label`    ω_ρ |A| / m_ρ       also however lopsided the game is for them
`deal`          |A| / s             GRPO's: s the deviation of the seat's results in its deal
==============  ==================  ====================================================

with m_ρ = E_ρ|A| and ω_ρ = M_ρ / f_ρ, where f_ρ is the role's share of the behaviours and
M_ρ the share of the weight it should have. For outcomes ±1 won with probability p and the
baseline b = 2p − 1, m = 4p(1 − p), so a win weighs ω/2p and a loss ω/2(1 − p): weights in
inverse proportion to how frequent role and label are, with equal mass on wins and losses.

|A| stays in every weight: the sign alone would push up P(R > b) in place of E[R].

That weights are balanced between roles is MARO's (arXiv:2601.12323); these formulas are our
reading. `role` as baseline alone is role-conditioned advantage estimation (SPIRAL,
arXiv:2506.24119).

The statistics are *lagged*: a batch is weighted by what earlier batches showed, so that a
behaviour cannot move its own baseline. The very first batch has nothing to look back on and
is weighted by its own statistics; the bias is of the order of one over its behaviours.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from maro_jax.credit.grouping import safe_ratio, sum_by_group

SHRINKAGE = 50.0  # behaviours of its role that a cell's baseline is mixed with
MINIMUM_ADVANTAGE = 0.36  # floor of m: 4p(1 − p) at a win rate of one in ten
MAXIMUM_ROLE_WEIGHT = 4.0  # cap of ω
STATISTICS_DECAY = 0.9  # what an iteration's sums count for one iteration later


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BalanceStatistics:
    """Decayed sums over past batches, for each cell of role and phase.

    Sums and counts decay alike, so their ratios are means without the bias towards the
    start value that a running mean of ratios has. R roles, P phases.
    """

    count: jax.Array  # `float32[R, P]` behaviours learnt from
    return_sum: jax.Array  # `float32[R, P]` of their G
    absolute_advantage_sum: jax.Array  # `float32[R, P]` of their |A|
    episodes: jax.Array  # `float32[]` episodes they came from

    @property
    def role_count(self) -> jax.Array:
        """`float32[R]`, behaviours of each role."""
        return jnp.sum(self.count, axis=1)

    @property
    def role_share(self) -> jax.Array:
        """f, `float32[R]`: share of each role in the behaviours; all 0 before any."""
        return safe_ratio(self.role_count, jnp.sum(self.count), 0.0)

    @property
    def mean_return(self) -> jax.Array:
        """b_ρ, `float32[R]`: mean return of each role, 0 for a role never seen."""
        return safe_ratio(jnp.sum(self.return_sum, axis=1), self.role_count, 0.0)

    @property
    def mean_absolute_advantage(self) -> jax.Array:
        """m_ρ before its floor, `float32[R]`: mean |A| of each role, 1 if never seen."""
        return safe_ratio(jnp.sum(self.absolute_advantage_sum, axis=1), self.role_count, 1.0)

    @property
    def behaviours_per_episode(self) -> jax.Array:
        """n̄, `float32[]`: mean number of behaviours learnt from in an episode."""
        return safe_ratio(jnp.sum(self.count), self.episodes, 0.0)


def init(num_roles: int, num_phases: int) -> BalanceStatistics:
    """Statistics before any batch."""
    zeros = jnp.zeros((num_roles, num_phases), jnp.float32)
    return BalanceStatistics(zeros, zeros, zeros, jnp.zeros((), jnp.float32))


def update(
    statistics: BalanceStatistics,
    returns: jax.Array,
    advantages: jax.Array,
    role: jax.Array,
    phase: jax.Array,
    mask: jax.Array,
    num_episodes: int | jax.Array,
    decay: float = STATISTICS_DECAY,
) -> BalanceStatistics:
    """Adds a batch to the decayed sums.

    Args:
      statistics: sums so far, for R roles and P phases.
      returns: `float32[E, B]`, G.
      advantages: `float32[E, B]`, A as it was used for this batch.
      role: `int[E, B]` in [0, R) where `mask` holds.
      phase: `int[E, B]` in [0, P) where `mask` holds.
      mask: `bool[E, B]`, behaviours learnt from.
      num_episodes: episodes in the batch, those without such a behaviour included.
      decay: factor on the sums so far, in [0, 1].

    Returns:
      The new sums, `statistics · decay + batch`.
    """
    num_roles, num_phases = statistics.count.shape
    # Widened first: a product of two int8 columns would wrap beyond 127 cells.
    cell = jnp.where(mask, role.astype(jnp.int32) * num_phases + phase, -1)

    def sums(values: jax.Array) -> jax.Array:
        return sum_by_group(values, cell, num_roles * num_phases).reshape(num_roles, num_phases)

    batch = BalanceStatistics(
        count=sums(jnp.ones_like(returns)),
        return_sum=sums(returns),
        absolute_advantage_sum=sums(jnp.abs(advantages)),
        episodes=jnp.asarray(num_episodes, jnp.float32),
    )
    return jax.tree.map(lambda old, new: decay * old + new, statistics, batch)


def statistics_for(statistics: BalanceStatistics, batch: BalanceStatistics) -> BalanceStatistics:
    """Picks the statistics in force: the lagged ones, or the batch's own before there are any.

    Args:
      statistics: lagged sums.
      batch: sums of the current batch alone.
    """
    seen = jnp.sum(statistics.count) > 0
    return jax.tree.map(lambda old, new: jnp.where(seen, old, new), statistics, batch)


def _no_baseline(statistics: BalanceStatistics) -> jax.Array:
    return jnp.zeros_like(statistics.count)


def _role_baseline(statistics: BalanceStatistics) -> jax.Array:
    return jnp.broadcast_to(statistics.mean_return[:, None], statistics.count.shape)


def _cell_baseline(statistics: BalanceStatistics) -> jax.Array:
    """b = (n b_c + 50 b_ρ) / (n + 50): a rare cell leans on its role."""
    prior = SHRINKAGE * statistics.mean_return[:, None]
    return (statistics.return_sum + prior) / (statistics.count + SHRINKAGE)


BASELINES: dict[str, Callable[[BalanceStatistics], jax.Array]] = {
    "none": _no_baseline,
    "role": _role_baseline,
    "cell": _cell_baseline,
}


def baseline(statistics: BalanceStatistics, kind: str, role: jax.Array, phase: jax.Array) -> jax.Array:
    """The baseline b of each behaviour.

    It depends on role and phase alone, facts fixed before the action, so subtracting it
    leaves the expected gradient as it is.

    Args:
      statistics: the statistics in force, for R roles and P phases.
      kind: `none` (0), `role` (b_ρ) or `cell` (mean of role and phase, shrunk to b_ρ).
      role: `int[E, B]`; where it is outside [0, R) the result means nothing.
      phase: `int[E, B]`; likewise for P.

    Returns:
      `float32[E, B]`.

    Raises:
      ValueError: no baseline has this name.
    """
    _check("baseline", kind, BASELINES)
    return BASELINES[kind](statistics)[jnp.maximum(role, 0), jnp.maximum(phase, 0)]


def role_weights(statistics: BalanceStatistics, side_of_role: Sequence[int]) -> jax.Array:
    """ω_ρ = min(M_ρ / f_ρ, 4): what makes every side weigh the same.

    M is one over the number of sides for each side, split *equally* over that side's roles,
    so that inside a side a rare role (the seer) weighs as much as a frequent one (the
    villagers). Only roles and sides seen so far share; a role never seen has ω = 1. Where
    the cap bites, that role's mass stays below M_ρ: a bound on variance goes before balance.

    Args:
      statistics: the statistics in force, for R roles.
      side_of_role: R side indices, static.

    Returns:
      `float32[R]`.

    Raises:
      ValueError: not one side for each role.
    """
    side = np.asarray(side_of_role)
    if side.shape != statistics.count.shape[:1]:
        raise ValueError(
            f"side_of_role must name a side for each of the {statistics.count.shape[0]} roles,"
            f" not {side.size}; for example (1, 0, 0, 0) for a wolf and three village roles."
        )
    same_side = jnp.asarray(side[:, None] == side[None, :])
    seen = statistics.role_count > 0
    roles_on_side = jnp.sum(same_side & seen[None, :], axis=1)
    # Each seen role counts for 1 / (roles of its side), so that a seen side counts for 1.
    num_sides = jnp.sum(jnp.where(seen, 1.0 / jnp.maximum(roles_on_side, 1), 0.0))
    mass = safe_ratio(jnp.ones_like(statistics.role_count), num_sides * roles_on_side, 0.0)
    weight = safe_ratio(mass, statistics.role_share, 1.0)
    return jnp.minimum(weight, MAXIMUM_ROLE_WEIGHT)


def advantage_scale(statistics: BalanceStatistics) -> jax.Array:
    """m_ρ = max(E_ρ|A|, 0.36), `float32[R]`."""
    return jnp.maximum(statistics.mean_absolute_advantage, MINIMUM_ADVANTAGE)


Weight = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]

WEIGHTS: dict[str, Weight] = {
    "none": lambda advantage, role_weight, scale: jnp.abs(advantage),
    "role": lambda advantage, role_weight, scale: role_weight * jnp.abs(advantage),
    "role_label": lambda advantage, role_weight, scale: role_weight * jnp.abs(advantage) / scale,
    "deal": lambda advantage, role_weight, scale: jnp.abs(advantage) / scale,
}


def weights(kind: str, advantages: jax.Array, role_weight: jax.Array, scale: jax.Array) -> jax.Array:
    """w = |A|, ω|A|, ω|A|/m or |A|/s.

    Args:
      kind: one of `WEIGHTS`.
      advantages: `float32[...]`, A.
      role_weight: ω of each behaviour's role, broadcastable to A.
      scale: m of each behaviour's role, or s of its deal for `deal`; broadcastable to A.

    Raises:
      ValueError: no weight has this name.
    """
    _check("balance", kind, WEIGHTS)
    return WEIGHTS[kind](advantages, role_weight, scale)


def role_factor(kind: str, role_weight: jax.Array) -> jax.Array:
    """The part of a weight that is not the behaviour's own advantage: ω where roles are balanced, else 1.

    Args:
      kind: one of `WEIGHTS`.
      role_weight: ω of each behaviour's role.

    Raises:
      ValueError: no weight has this name.
    """
    _check("balance", kind, WEIGHTS)
    return role_weight if kind in ("role", "role_label") else jnp.ones_like(role_weight)


def effective_sample_size(weight: jax.Array, role: jax.Array, mask: jax.Array, num_roles: int) -> jax.Array:
    """(Σw)² / Σw² for each role (Kish), 0 where nothing weighs anything.

    Args:
      weight: `float32[E, B]`.
      role: `int[E, B]`.
      mask: `bool[E, B]`, behaviours learnt from.
      num_roles: number of roles R (static).

    Returns:
      `float32[R]`, between 1 and the role's number of behaviours.
    """
    group = jnp.where(mask, role, -1)
    total = sum_by_group(weight, group, num_roles)
    return safe_ratio(total**2, sum_by_group(weight**2, group, num_roles), 0.0)


def _check(switch: str, name: str, table: dict[str, Callable]) -> None:
    if name not in table:
        raise ValueError(f"{switch} must be one of {', '.join(table)}, not {name!r}; for example {switch}='role'.")
