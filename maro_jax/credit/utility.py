"""Part 3, direct utility: each behaviour is judged by itself, with no paired alternative.

A behaviour has a sign (good or bad), a weight w, and under the policy a log-probability
log π, the sum over its sampled tokens *under the masks they were sampled with*. Tokens that
the grammar forces have log-probability 0 and add nothing; there is no division by length.

`kto`        w (4/β) [1 − σ(sign · β (r − z0))],  r = log π − log π_ref
`dro`        u [−a r + β r²/2],  a = ± w/u,  u what the behaviour counts for whatever its advantage
`reinforce`  −w · sign · log π
`ppo`        −w · min(sign · ρ, sign · min(max(ρ, 1 − ε), 1 + ε)),  ρ = exp(log π − log π_ref)
`clone`      −w · log π where sign is good, else 0

The first is the loss of KTO (Ethayarajh et al., arXiv:2402.01306) with λ = 4w/β. Its gradient is
−w · sign · h · ∇log π with h = 4σ'(β(r − z0)), so the factor 4/β makes it *equal* to
REINFORCE's where policy and reference agree (r = z0 = 0, h = 1). Further away h shrinks the
gradient of any behaviour, good or bad, whose probability has already moved: a bound on how
far one batch can push, bought with a bias. Watch the mean of :func:`gradient_scale` (below 0.5 is an
alarm) and the share of :func:`is_saturated` (above 5 %).

`dro` (Direct Reward Optimisation, Richemond et al., arXiv:2405.19107) is, but for a constant,
(u/2β)(a − β r)²: the log-ratio is regressed on the advantage. At the reference its gradient too is
REINFORCE's; from there a batch can be gone through many times, since each behaviour's loss is least at
one finite r = a/β. Passes enough to come near it make about a step of mirror descent, whose length β
sets and not the optimizer, nor how parameters couple situations. Here behaviours of advantage 0 count.

MARO (arXiv:2601.12323) evaluates the utility of each behaviour directly; that this is done
with the KTO form is our reading.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from maro_jax.credit.grouping import safe_ratio, sum_by_group


def kto(
    log_ratio: jax.Array,
    sign: jax.Array,
    weight: jax.Array,
    beta: float,
    reference_point: jax.Array,
) -> jax.Array:
    """KTO's loss of each behaviour, scaled to REINFORCE at the reference.

    A bad behaviour has 1 − σ(−β(r − z0)) = 1 − σ(β(z0 − r)): the sign turns the whole
    argument round, reference point included.

    Args:
      log_ratio: r = log π − log π_ref, `float32[...]`, nats.
      sign: +1 good, −1 bad, 0 neither, `float32[...]`.
      weight: w ≥ 0, `float32[...]`; where it is 0 the loss is 0, whatever the log-ratio.
      beta: β > 0, how fast the gradient saturates, per nat.
      reference_point: z0, broadcastable to `log_ratio`, nats; carries no gradient.

    Returns:
      `float32[...]`, at most 4w/β.
    """
    counts = weight > 0
    centred = jnp.where(counts, log_ratio - jax.lax.stop_gradient(reference_point), 0.0)
    # 1 − σ(x) = σ(−x), which does not cancel where σ(x) is close to 1.
    loss = (4.0 / beta) * weight * jax.nn.sigmoid(-sign * beta * centred)
    return jnp.where(counts, loss, 0.0)


def dro(log_ratio: jax.Array, advantage: jax.Array, weight: jax.Array, beta: float) -> jax.Array:
    """DRO's loss of each behaviour without the constant, scaled to REINFORCE at the reference: u [−a r + β r²/2].

    Args:
      log_ratio: r = log π − log π_ref, `float32[...]`, nats; π_ref is the policy that played.
      advantage: a, `float32[...]`, of any size.
      weight: u ≥ 0, `float32[...]`; where it is 0 the loss is 0, whatever the log-ratio.
      beta: β > 0, advantage per nat.

    Returns:
      `float32[...]`, at least −u a²/2β.
    """
    counts = weight > 0
    ratio = jnp.where(counts, log_ratio, 0.0)
    return jnp.where(counts, weight * (beta / 2 * ratio**2 - advantage * ratio), 0.0)


def reinforce(log_prob: jax.Array, sign: jax.Array, weight: jax.Array) -> jax.Array:
    """REINFORCE's loss of each behaviour, −w · sign · log π.

    Args:
      log_prob: log π of the reply, `float32[...]`, nats.
      sign: +1 good, −1 bad, 0 neither, `float32[...]`.
      weight: w ≥ 0, `float32[...]`; where it is 0 the loss is 0, whatever the log-prob.

    Returns:
      `float32[...]`.
    """
    return jnp.where(weight > 0, -weight * sign * log_prob, 0.0)


def ppo(log_ratio: jax.Array, sign: jax.Array, weight: jax.Array, clip: float) -> jax.Array:
    """PPO's clipped surrogate of each behaviour (Schulman et al., arXiv:1707.06347); a whole reply is one action.

    The gradient is REINFORCE's times ρ, and none once ρ has left [1 − ε, 1 + ε] in the direction of the sign.

    Args:
      log_ratio: log π − log π_ref, `float32[...]`, nats; π_ref is the policy that played.
      sign: +1 good, −1 bad, 0 neither, `float32[...]`.
      weight: w ≥ 0, `float32[...]`; where it is 0 the loss is 0, whatever the log-ratio.
      clip: ε in (0, 1).

    Returns:
      `float32[...]`.
    """
    counts = weight > 0
    # e^20 is far beyond any clip and far from overflow.
    ratio = jnp.exp(jnp.clip(jnp.where(counts, log_ratio, 0.0), -20.0, 20.0))
    held = jnp.clip(ratio, 1.0 - clip, 1.0 + clip)
    return jnp.where(counts, -weight * jnp.minimum(sign * ratio, sign * held), 0.0)


def clone(log_prob: jax.Array, sign: jax.Array, weight: jax.Array) -> jax.Array:
    """Cloning of winners: −w · log π of good behaviours; nothing is learnt from bad ones. A control.

    Args:
      log_prob: log π of the reply, `float32[...]`, nats.
      sign: +1 good, −1 bad, 0 neither, `float32[...]`.
      weight: w ≥ 0, `float32[...]`; where it is 0 the loss is 0, whatever the log-prob.

    Returns:
      `float32[...]`.
    """
    return reinforce(log_prob, jnp.maximum(sign, 0.0), weight)


def gradient_scale(log_ratio: jax.Array, beta: float, reference_point: jax.Array) -> jax.Array:
    """h = 4σ'(β(r − z0)) in (0, 1]: what is left of REINFORCE's gradient under `kto`."""
    value = jax.nn.sigmoid(beta * (log_ratio - reference_point))
    return 4.0 * value * (1.0 - value)


def is_saturated(log_ratio: jax.Array, beta: float, reference_point: jax.Array) -> jax.Array:
    """Whether |β(r − z0)| > 1, `bool[...]`: there h < 0.79, and falls off like e^−|β(r − z0)|, whatever the sign."""
    return jnp.abs(beta * (log_ratio - reference_point)) > 1.0


def is_clipped(log_ratio: jax.Array, sign: jax.Array, clip: float) -> jax.Array:
    """Whether ρ has left [1 − ε, 1 + ε] in the direction of the sign, `bool[...]`: there `ppo` has no gradient."""
    ratio = jnp.exp(jnp.clip(log_ratio, -20.0, 20.0))
    return sign * ratio > sign * jnp.clip(ratio, 1.0 - clip, 1.0 + clip)


def token_kl(log_probs: jax.Array, reference_log_probs: jax.Array, mask: jax.Array) -> jax.Array:
    """Exact KL(π ‖ π_ref) = Σ π (log π − log π_ref) over the choices allowed at a token.

    A choice that is not allowed, or that π gives probability 0, adds 0 and has no gradient,
    also where its log-probability is −inf. One that π allows and π_ref does not gives inf,
    which cannot happen when both are taken under the same mask.

    Args:
      log_probs: log π, `float32[..., C]`, normalised over the allowed choices, nats.
      reference_log_probs: log π_ref, `float32[..., C]`, likewise.
      mask: `bool[..., C]`, allowed choices; a row with none has KL 0.

    Returns:
      `float32[...]`, nats.
    """
    counts = mask & (log_probs > -jnp.inf)
    policy = jnp.where(counts, log_probs, 0.0)
    reference = jnp.where(counts, reference_log_probs, 0.0)
    return jnp.sum(jnp.where(counts, jnp.exp(policy) * (policy - reference), 0.0), axis=-1)


def sampled_kl(log_ratio: jax.Array) -> jax.Array:
    """Unbiased estimate ρ ln ρ − ρ + 1 ≥ 0 of :func:`token_kl` from a token that the reference policy sampled.

    With ρ = π/π_ref, the mean over tokens of π_ref is Σ π ln ρ − Σ π + Σ π_ref, and both sums are 1: no second forward
    pass is needed where the reference is the policy that played. Schulman's "k3", here for KL(π ‖ π_ref).

    Args:
      log_ratio: ln ρ of the sampled token, `float32[...]`, nats; held within ±20.

    Returns:
      `float32[...]`, nats; about half the square of a small log-ratio.
    """
    held = jnp.clip(log_ratio, -20.0, 20.0)
    return held * jnp.exp(held) - jnp.expm1(held)


def reference_point(kl: jax.Array, phase: jax.Array, mask: jax.Array, num_phases: int) -> jax.Array:
    """z0 of each phase: the mean over its behaviours of Σ_t KL(π ‖ π_ref), no gradient.

    KTO's reference point is the KL of policy and reference at the prompts. The published
    estimate judges a reply under a foreign prompt; in a game that reply is often illegal
    there (−inf − (−inf)), and the exact KL is at hand, since few choices are legal.

    Args:
      kl: `float32[...]`, the sum of :func:`token_kl` or :func:`sampled_kl` over the behaviour's tokens, nats.
      phase: `int[...]`.
      mask: `bool[...]`, behaviours learnt from.
      num_phases: number of phases P (static).

    Returns:
      `float32[P]`, nats; 0 for a phase without behaviours.
    """
    group = jnp.where(mask, phase, -1)
    total = sum_by_group(jnp.where(mask, kl, 0.0), group, num_phases)
    count = sum_by_group(jnp.ones_like(kl), group, num_phases)
    return jax.lax.stop_gradient(safe_ratio(total, count, 0.0))


def zero_reference_point(kl: jax.Array, phase: jax.Array, mask: jax.Array, num_phases: int) -> jax.Array:
    """z0 = 0 for every phase, `float32[P]`.

    With it `kto` is APO-zero for unpaired data (D'Oosterlinck et al., arXiv:2408.06266).
    """
    del phase, mask
    return jnp.zeros((num_phases,), kl.dtype)


def mismatched_reference_point(log_ratio: jax.Array, mask: jax.Array) -> jax.Array:
    """z0 of KTO as published, from pairs of a prompt and another prompt's reply: max(0, mean log π/π_ref), no gradient.

    For learning offline from recorded text. Both log-probabilities are of the whole vocabulary: under grammar masks a
    foreign reply is often impossible (−inf − (−inf)). The trainer plays anew in every iteration and measures the KL
    itself (:func:`reference_point`).

    Args:
      log_ratio: log π(y'|x) − log π_ref(y'|x) of replies y' to other prompts than x, `float32[...]`, nats.
      mask: `bool[...]`, pairs that count.

    Returns:
      `float32[]`, nats; 0 without a pair.
    """
    total = jnp.sum(jnp.where(mask, log_ratio, 0.0))
    mean = safe_ratio(total, jnp.sum(mask).astype(total.dtype), 0.0)
    return jax.lax.stop_gradient(jnp.maximum(mean, 0.0))


ReferencePoint = Callable[[jax.Array, jax.Array, jax.Array, int], jax.Array]

REFERENCE_POINTS: dict[str, ReferencePoint] = {
    "token_kl": reference_point,
    "sampled_kl": reference_point,
    "zero": zero_reference_point,
}
