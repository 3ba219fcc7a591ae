"""The three parts put together: decomposition → baseline → balance, then utility.

`credit` runs once a batch, over whole episodes, and needs no model. `behaviour_loss` runs
inside the learner's gradient, wherever the behaviours lie there. The learner's loss is

  Σ w ℓ / (E · n̄),   E episodes, n̄ the lagged mean number of behaviours an episode,

over the *global* batch: across devices and gradient accumulation alike. The divisor is
`BehaviourCredit.normaliser`. Dividing by the number of behaviours kept would reward a policy
for changing that number.
"""

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp

from maro_jax.credit import balance, deals, decomposition, utility
from maro_jax.credit.grouping import safe_ratio, sum_by_group
from maro_jax.run.config import BY_VALUE, REFERENCES

OPTIONS: dict[str, tuple[str, ...]] = {
    "decompose": (*decomposition.DECOMPOSITIONS, *BY_VALUE, "rules", "fork"),
    "baseline": (*balance.BASELINES, "deal"),
    "balance": tuple(balance.WEIGHTS),
    "utility": ("kto", "dro", "reinforce", "ppo", "clone"),
    "reference_point": tuple(utility.REFERENCE_POINTS),
    "reference": REFERENCES,
}


@dataclasses.dataclass(frozen=True)
class CreditOptions:
    """Which credit a behaviour gets; hashable, hence static under `jax.jit`.

    The defaults are MARO as we read it. `decompose='none'`, `balance='none'` and
    `utility='reinforce'` switch off one part each.

    Attributes:
      decompose: how the outcome becomes returns.
      discount: factor for each later behaviour of the seat, in (0, 1]; `discounted` only.
      value_decay: λ, what a change of the prospects counts one behaviour earlier, in [0, 1]; `value`, `pnlc` and
        `fork_dr` only.
      rules_weight: μ, how much a rule's score counts beside the outcome, above 0; `rules` only.
      baseline: what is subtracted from a return.
      balance: how an advantage becomes a weight.
      deal_group: g, episodes of a deal that follow each other in a batch, for `baseline='deal'`.
      utility: the loss of one behaviour.
      beta: β of `kto` and `dro`, > 0, per nat.
      reference_point: z0 of `kto`.
      reference: the policy that `kto` measures r and z0 to: that of the iteration's first weights, which played; the
        warm start; or one that follows slowly. The last two lie outside of what is known here: whoever takes the loss
        passes their parameters.
      clip: ε of `ppo`, in (0, 1).

    Raises:
      ValueError: a value is not allowed, or the combination makes no sense.
    """

    decompose: str = "outcome"
    discount: float = 0.9
    value_decay: float = 0.95
    rules_weight: float = 0.5
    baseline: str = "role"
    balance: str = "role_label"
    deal_group: int = 1
    utility: str = "kto"
    beta: float = 0.1
    reference_point: str = "token_kl"
    reference: str = "iteration"
    clip: float = 0.2

    def __post_init__(self) -> None:
        for switch, allowed in OPTIONS.items():
            value = getattr(self, switch)
            if value not in allowed:
                raise ValueError(
                    f"{switch} must be one of {', '.join(allowed)}, not {value!r};"
                    f" for example {switch}={allowed[-1]!r}."
                )
        if not 0.0 < self.discount <= 1.0:
            raise ValueError(f"discount must lie in (0, 1], not {self.discount}; for example discount=0.9.")
        if not 0.0 <= self.value_decay <= 1.0:
            raise ValueError(f"value_decay must lie in [0, 1], not {self.value_decay}; for example value_decay=0.95.")
        if not 0.0 < self.rules_weight < float("inf"):
            raise ValueError(f"rules_weight must be above 0, not {self.rules_weight}; for example rules_weight=0.5.")
        if not 0.0 < self.beta < float("inf"):
            raise ValueError(f"beta must be above 0, not {self.beta}; for example beta=0.1.")
        if self.balance == "role_label" and self.baseline == "none":
            raise ValueError(
                "balance='role_label' needs a baseline to tell good from bad for the role:"
                " set baseline to role or cell, or balance to none or role;"
                " for example baseline='role'."
            )
        if not 0.0 < self.clip < 1.0:
            raise ValueError(f"clip must lie between 0 and 1, not {self.clip}; for example clip=0.2.")
        if self.utility == "kto" and self.reference != "iteration" and self.reference_point == "sampled_kl":
            raise ValueError(
                "reference_point='sampled_kl' is an estimate from tokens that the reference itself has sampled:"
                f" with reference={self.reference!r} set for example reference_point='token_kl'."
            )
        if self.balance == "deal" and self.baseline != "deal":
            raise ValueError("balance='deal' divides by the deviation of a deal's results: set baseline='deal' too.")
        if self.baseline == "deal" and self.deal_group < 2:
            raise ValueError(
                "baseline='deal' compares the episodes of a deal, so there must be at least 2:"
                f" not deal_group={self.deal_group} but for example deal_group=8."
            )
        if self.baseline == "deal" and self.decompose not in ("none", "outcome"):
            raise ValueError(
                "baseline='deal' is a mean of whole outcomes: it fits decompose='outcome' or 'none', not"
                f" {self.decompose!r}."
            )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BehaviourCredit:
    """What each behaviour of a batch is worth. All are 0 where `eligible` is False."""

    returns: jax.Array  # `float32[E, B]` G
    advantages: jax.Array  # `float32[E, B]` A = G − b
    signs: jax.Array  # `float32[E, B]` sign(A): +1 good, −1 bad, 0 neither; with `dro` ±w/u, with `clone` never −1
    weights: jax.Array  # `float32[E, B]` w ≥ 0; with `dro` u, what the behaviour counts for whatever its A
    eligible: jax.Array  # `bool[E, B]` learnt from
    normaliser: jax.Array  # `float32[]` E · n̄, the divisor of the batch's loss


def credit(
    options: CreditOptions,
    statistics: balance.BalanceStatistics,
    *,
    seat: jax.Array,
    role: jax.Array,
    phase: jax.Array,
    eligible: jax.Array,
    outcome: jax.Array,
    side_of_role: Sequence[int],
    values: jax.Array | None = None,
    scores: jax.Array | None = None,
    judged: jax.Array | None = None,
    forked: decomposition.Forked | None = None,
    decay: float = balance.STATISTICS_DECAY,
) -> tuple[BehaviourCredit, balance.BalanceStatistics]:
    """Credits every behaviour of a batch of episodes.

    Args:
      options: the switches (static).
      statistics: of earlier batches; `balance.init(R, P)` before the first, which then is
        credited by its own statistics.
      seat: `int[E, B]`, the deciding seat in decision order, -1 for an empty slot. With `baseline='deal'` the episodes
        of a deal follow each other.
      role: `int[E, B]`, that seat's role, in [0, R).
      phase: `int[E, B]`, in [0, P).
      eligible: `bool[E, B]`, behaviours that may be learnt from: decided by the learner, in
        an episode that came to its end.
      outcome: `float32[E, N]`, of each seat, in [-1, 1].
      side_of_role: R side indices (static).
      values: `float32[E, B]`, the outcome expected before each behaviour; read by `decompose='value'`,
        `'pnlc'` and `'fork_dr'` where `eligible`.
      scores, judged: `float32[E, B]`, what rules say of each behaviour, and `bool[E, B]`, of which they say something;
        read by `decompose='rules'` where `eligible`.
      forked: what forks of behaviours have shown; read by `decompose='fork'` and `'fork_dr'` where `eligible`.
      decay: of the statistics, for one batch.

    Returns:
      The credit, and the statistics for the next batch.
    """
    num_episodes: int | jax.Array = seat.shape[0]
    if options.decompose == "fork":
        # Those forked are the behaviours of so many: 1/q, in n̄ and in the loss.
        num_episodes = num_episodes * _given("fork", "forked", forked).share
    cell = role.astype(jnp.int32) * statistics.count.shape[1] + phase
    returns, carried = _returns(
        options, seat, cell, statistics.count.size, eligible, outcome, values, scores, judged, forked
    )
    eligible = eligible & carried
    returns = jnp.where(eligible, returns, 0.0)
    nothing = balance.init(*statistics.count.shape)

    def in_force(advantages: jax.Array) -> balance.BalanceStatistics:
        batch = balance.update(nothing, returns, advantages, role, phase, eligible, num_episodes)
        return balance.statistics_for(statistics, batch)

    # Baselines come first, mean |A| second: on the first batch both are its own.
    if options.baseline == "deal":
        of_deal = deals.of_deals(options.deal_group, seat, eligible, outcome)
        baselines = of_deal.mean
    else:
        baselines = balance.baseline(in_force(jnp.zeros_like(returns)), options.baseline, role, phase)
    advantages = jnp.where(eligible, returns - baselines, 0.0)
    current = in_force(advantages)
    of_role = jnp.maximum(role, 0)
    role_weights = balance.role_weights(current, side_of_role)[of_role]
    scale = of_deal.deviation if options.balance == "deal" else balance.advantage_scale(current)[of_role]
    weights, signs = balance.weights(options.balance, advantages, role_weights, scale), jnp.sign(advantages)
    if options.utility == "dro":  # which also holds behaviours of advantage 0 where they are
        factor = balance.role_factor(options.balance, role_weights)
        signs, weights = signs * weights / factor, jnp.where(eligible, factor, 0.0)
    elif options.utility == "clone":  # which learns nothing from bad behaviours
        signs = jnp.maximum(signs, 0.0)
    given = BehaviourCredit(
        returns=returns,
        advantages=advantages,
        signs=signs,
        weights=weights,
        eligible=eligible,
        # At least 1, so that a batch with nothing to learn from has loss 0 and not 0 / 0.
        normaliser=jnp.maximum(num_episodes * current.behaviours_per_episode, 1.0),
    )
    following = balance.update(statistics, returns, advantages, role, phase, eligible, num_episodes, decay)
    return given, following


def _returns(
    options: CreditOptions,
    seat: jax.Array,
    cell: jax.Array,
    num_cells: int,
    eligible: jax.Array,
    outcome: jax.Array,
    values: jax.Array | None,
    scores: jax.Array | None,
    judged: jax.Array | None,
    forked: decomposition.Forked | None,
) -> tuple[jax.Array, jax.Array]:
    """G of each behaviour and which of them carry one; arguments as those of `credit`."""
    name = options.decompose
    if name == "fork":
        found = _given(name, "forked", forked)
        return found.differences, found.known
    if name in BY_VALUE:
        values = _given(name, "values", values)
        returns = decomposition.by_value(seat, outcome, values, eligible, options.value_decay)
        if name == "fork_dr":
            returns = decomposition.doubly_robust(returns, _given(name, "forked", forked))
        return returns, eligible
    if name == "rules":
        scores, judged = _given(name, "scores", scores), _given(name, "judged", judged)
        told = (judged & eligible, cell, num_cells)
        return decomposition.by_rules(seat, outcome, scores, *told, options.rules_weight), eligible
    return decomposition.decompose(name, seat, outcome, discount=options.discount)


Needed = TypeVar("Needed")


def _given(name: str, argument: str, value: Needed | None) -> Needed:
    if value is None:
        raise ValueError(f"decompose={name!r} does not go by outcomes alone: pass {argument}=...")
    return value


def behaviour_loss(
    options: CreditOptions,
    log_prob: jax.Array,
    reference_log_prob: jax.Array,
    reference_point: jax.Array,
    sign: jax.Array,
    weight: jax.Array,
) -> jax.Array:
    """The loss w ℓ of each behaviour, to be summed and divided by the normaliser.

    Args:
      options: the switches (static).
      log_prob: log π of the reply, `float32[...]`, nats; carries the gradient.
      reference_log_prob: log π_ref of it, nats; read by `kto`, `dro` and `ppo`. Only `kto`'s reference may be another
        policy than the one that played.
      reference_point: z0 of the behaviour's phase, nats; read by `kto`.
      sign: `float32[...]`.
      weight: `float32[...]`; where it is 0 the loss is 0.

    Returns:
      `float32[...]`.
    """
    if options.utility == "reinforce":
        return utility.reinforce(log_prob, sign, weight)
    if options.utility == "clone":
        return utility.clone(log_prob, sign, weight)
    log_ratio = log_prob - jax.lax.stop_gradient(reference_log_prob)
    if options.utility == "ppo":
        return utility.ppo(log_ratio, sign, weight, options.clip)
    if options.utility == "dro":
        return utility.dro(log_ratio, sign, weight, options.beta)
    return utility.kto(log_ratio, sign, weight, options.beta, reference_point)


def metrics(given: BehaviourCredit, role: jax.Array, num_roles: int) -> dict[str, jax.Array]:
    """What to log about a batch's credit, for each role: `float32[R]` under each name.

    Args:
      given: the batch's credit.
      role: `int[E, B]`.
      num_roles: number of roles R (static).

    Returns:
      `behaviours` (learnt from), `mean_return`, `mean_advantage`, `good_mass` and `bad_mass`
      (Σw of each sign) and `effective_sample_size`; means are 0 for an absent role.
    """
    group = jnp.where(given.eligible, role, -1)
    mass = given.weights * jnp.abs(given.signs)

    def sums(values: jax.Array) -> jax.Array:
        return sum_by_group(values, group, num_roles)

    behaviours = sums(jnp.ones_like(given.weights))
    return {
        "behaviours": behaviours,
        "mean_return": safe_ratio(sums(given.returns), behaviours, 0.0),
        "mean_advantage": safe_ratio(sums(given.advantages), behaviours, 0.0),
        "good_mass": sums(jnp.where(given.signs > 0, mass, 0.0)),
        "bad_mass": sums(jnp.where(given.signs < 0, mass, 0.0)),
        "effective_sample_size": balance.effective_sample_size(mass, role, given.eligible, num_roles),
    }
