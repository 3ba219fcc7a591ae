"""Scripted persuasion players: they read only their own view of the log.

The persuader asks first what the persuadee cares for, then reckons by Bayes' rule how much effect each appeal still
has, from all answers so far, and makes the one that promises the largest donation; when none promises anything, it asks
for the donation. The persuadee answers as one played by the environment does, gives what it is willing to give, and
agrees unasked once more talk can bring it nothing.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from games import persuasion as rules
from games.core import SeatView
from games.persuasion import APPEALS, ASK, CARES, KIND, PERSONAL

MOST_USES = 3  # of one appeal: none has an effect the third time
FORESIGHT = 3.0  # interest still to come that trust is valued with
LEAST_GAIN = 0.05  # quarter dollars that make one more appeal worth while
NOISE = 0.02  # scale of the Gumbel noise that keeps equal appeals apart

# float32[3 things to care for, 7 appeals, 3 weights]: chances of the deal.
PRIOR = (rules.WEIGHTS[..., None] == np.arange(3)).mean(axis=1).astype(np.float32)[rules.FIT]
# int8[3 weights, 3 uses]: the effect of each use; and float32[3 weights, 3 uses, 3 reactions]: how it is answered.
EFFECT = np.maximum(np.arange(3)[:, None] - np.arange(MOST_USES), 0)
LIKELIHOOD = (np.maximum(rules.REACTIONS, 1) / 100).astype(np.float32)[EFFECT]
REPORT = (rules.REPORTS / 100).astype(np.float32)


def heuristic(view: SeatView, key: jax.Array) -> jax.Array:
    """int32[]: the action of a sensible player with what `view` shows."""
    return jnp.where(view.role == rules.PERSUADER, _persuade(view, key), _answer(view, key)).astype(jnp.int32)


class Rows:
    """The rows a seat knows, by kind of event, and which act each of them follows."""

    def __init__(self, view: SeatView):
        self.kind, _, self.target, self.value = (view.rows[:, c].astype(jnp.int32) for c in range(4))
        acted, place = self.are("act"), jnp.arange(self.kind.shape[0])
        last = jax.lax.cummax(jnp.where(acted, place, -1))
        self.act = jnp.where(last < 0, ASK, self.value[last])  # int32[M], the latest act up to each row
        same = (self.act[:, None] == self.act) & acted & (place <= place[:, None])
        self.use = jnp.sum(same, axis=1) - 1  # int32[M], how often it had been made before

    def are(self, name: str) -> jax.Array:
        """bool[M]: the rows of a kind."""
        return self.kind == KIND[name]

    def latest(self, name: str) -> jax.Array:
        """int32[]: the value of the latest row of a kind."""
        return self.value[jnp.max(jnp.where(self.are(name), jnp.arange(self.kind.shape[0]), -1))]


def _persuade(view: SeatView, key: jax.Array) -> jax.Array:
    """int32[]: an act of the persuader."""
    rows = Rows(view)
    uses = jnp.sum(rows.are("act")[:, None] & (rows.value[:, None] == jnp.arange(rules.TOPICS)), axis=0)
    asked, left = uses[PERSONAL] > 0, rows.latest("exchanges") - jnp.sum(rows.are("act"))
    chance = _weights_given(rows)  # float32[7, 3]
    uses = uses[: len(APPEALS)]
    effect = jnp.maximum(np.arange(3) - uses[:, None], 0)  # int32[7, 3], of one more use
    expected, misses = jnp.sum(chance * effect, axis=1), jnp.sum(chance * (effect == 0), axis=1)

    used = jnp.arange(MOST_USES) < uses[:, None]
    so_far = jnp.einsum("kw,ku,wu->k", chance, used.astype(jnp.float32), EFFECT.astype(np.float32))
    missed = jnp.einsum("kw,ku,wu->", chance, used.astype(jnp.float32), (EFFECT == 0).astype(np.float32))
    credible = np.arange(len(APPEALS)) == rules.CREDIBILITY
    interest = rules.MOST_INTEREST_DEALT / 2 + jnp.sum(jnp.where(credible, 0, so_far))
    trust = jnp.clip(2 + so_far[rules.CREDIBILITY] - missed, 0.5, rules.MOST_TRUST)
    trust_gain = jnp.minimum(expected, rules.MOST_TRUST - trust) - misses
    gain = jnp.where(credible, trust_gain * (interest + FORESIGHT), expected * trust - misses * interest) / 4
    gain = gain + NOISE * jax.random.gumbel(key, gain.shape)
    best = jnp.argmax(gain)
    appeal = jnp.where(asked, jnp.where(gain[best] > LEAST_GAIN, best, ASK), PERSONAL)
    return jnp.where(left <= 1, ASK, appeal)


def _weights_given(rows: Rows) -> jax.Array:
    """float32[7, 3]: chances of each appeal's weight, given all that the persuadee has answered."""
    answered, use = rows.are("reply"), jnp.minimum(rows.use, MOST_USES - 1)
    told = answered & (rows.act == PERSONAL)
    reaction = jnp.log(LIKELIHOOD)[:, use, jnp.clip(rows.value, 0, 2)]  # float32[3, M]
    about = answered & (rows.act == np.arange(len(APPEALS))[:, None])  # bool[7, M]
    evidence = jnp.where(about, 1.0, 0.0) @ reaction.T  # float32[7, 3]
    joint = jnp.asarray(PRIOR) * jnp.exp(evidence)  # float32[3 cares, 7, 3 weights]
    each = jnp.sum(joint, axis=2)
    report = jnp.log(REPORT)[:, jnp.clip(rows.value - len(CARES), 0, 2)]
    leaning = jax.nn.softmax(jnp.sum(jnp.log(each), axis=1) + jnp.sum(jnp.where(told, report, 0.0), axis=1))
    return jnp.einsum("c,ckw->kw", leaning, joint / each[:, :, None])


def _answer(view: SeatView, key: jax.Array) -> jax.Array:
    """int32[]: an answer or a donation of the persuadee."""
    rows = Rows(view)
    act, use = rows.act[-1], rows.use[-1]  # unused rows at the end follow the latest act
    interest, trust, budget, leaning = (rows.latest(name) for name in ("interest", "trust", "budget", "leaning"))
    willing = interest * trust // 4
    weight = jnp.sum(jnp.where(rows.are("weight") & (rows.target == act), rows.value, 0))
    trusting = 2 - (trust >= rules.TRUSTING).astype(jnp.int32) - (trust >= rules.HALF_TRUSTING)
    interested = 2 - (interest >= rules.INTERESTED).astype(jnp.int32) - (interest >= rules.HALF_INTERESTED)
    truth = jnp.where(act == PERSONAL, leaning, jnp.where(act == rules.SOURCE, trusting, interested))
    reaction = jnp.asarray(rules.REACTIONS)[jnp.maximum(weight - use, 0)]
    chances = jnp.where(act < rules.SOURCE, reaction, jnp.asarray(rules.REPORTS)[truth])
    answer = jax.random.categorical(key, jnp.log(chances / 100)) + len(CARES) * (act == PERSONAL)
    no_more_to_gain = (willing >= budget) | (jnp.sum(rows.are("act")) >= rows.latest("exchanges"))
    reply = rules.ACTS + jnp.where(no_more_to_gain & (willing > 0), rules.AGREE, answer)
    return jnp.where(
        view.phase == rules.DONATE, rules.GIVE + jnp.minimum(jnp.minimum(willing, budget), rules.QUARTERS), reply
    )
