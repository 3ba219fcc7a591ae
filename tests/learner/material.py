"""Episodes to learn from, a model small enough for many compilations, and the loss worked out plainly."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from maro_jax.credit.objective import CreditOptions
from maro_jax.learner.decisions import Decisions
from maro_jax.learner.packing import PackingShape, Streams, pack
from maro_jax.policy.attention import CausalAttention
from maro_jax.policy.config import TINY
from maro_jax.policy.decoder import Policy
from maro_jax.selfplay.episodes import Episodes
from maro_jax.selfplay.table import Table
from tests.selfplay.playing import played, world
from tests.selfplay.replies import behaviours_of, full_stream, reply_of

SHAPE = PackingShape(rows=8, width=256, queries=128, behaviours=64)
CHOSEN = np.array([1, 4, 11])  # episodes that most tests learn from


@dataclasses.dataclass(frozen=True, eq=False)
class Material:
    """Episodes with a sign and a weight for each behaviour.

    Attributes:
      table: the game laid out for the small model.
      episodes: on the host.
      sign: float32[E, B], -1 or 1.
      weight: float32[E, B], some of them 0.
      params: of the small model.
      reference: other parameters, not far away.
      point: float32[phases].
    """

    table: Table
    episodes: Episodes
    sign: np.ndarray
    weight: np.ndarray
    params: Any
    reference: Any
    point: np.ndarray

    @property
    def decisions(self) -> Decisions:
        """The one game, as the learner knows it."""
        return Decisions.of([self.table])

    def packed(self, chosen: np.ndarray = CHOSEN, weight: np.ndarray | None = None) -> list[Streams]:
        """Micro-batches of some episodes."""
        weight = self.weight if weight is None else weight
        return list(pack(self.decisions, 0, (SHAPE,), self.episodes, self.sign, weight, chosen))


@functools.cache
def material(name: str) -> Material:
    """The episodes of a world of `tests.selfplay.playing`, for a smaller model with the same tokenizer."""
    place = world(name)
    config = dataclasses.replace(
        TINY,
        vocab_size=place.table.policy.config.vocab_size,
        hidden_size=32,
        intermediate_size=48,
        num_layers=2,
        head_dim=8,
    )
    policy = Policy(config, precision="highest")
    table = Table.lay(place.table.game, policy, place.table.tokenizer)
    episodes, chance = played(name), np.random.default_rng(0)
    made = episodes.behaviours.seat >= 0
    weight = np.where(made & (chance.random(made.shape) < 0.7), chance.uniform(0.2, 2.0, made.shape), 0)
    params = policy.init(jax.random.key(0))
    params = params | {"embedding": params["embedding"] * 3.0}
    reference = jax.tree.map(lambda leaf: leaf * 1.1, params)
    return Material(
        table=table,
        episodes=episodes,
        sign=chance.choice([-1.0, 1.0], made.shape).astype(np.float32),
        weight=weight.astype(np.float32),
        params=params,
        reference=reference,
        point=chance.uniform(0, 0.5, len(table.spec.phases)).astype(np.float32),
    )


@dataclasses.dataclass(frozen=True)
class Token:
    """A chosen token: of which behaviour, where it lies, and what it was chosen from."""

    episode: int
    decision: int
    stream: int
    place: int
    token: int
    allowed: tuple[int, ...]
    recorded: float
    action: bool


def tokens_of(given: Material, chosen: np.ndarray) -> tuple[list[np.ndarray], list[Token]]:
    """Whole streams, and the chosen tokens of the behaviours with a weight."""
    episodes, made = given.episodes, given.episodes.behaviours
    streams: list[np.ndarray] = []
    tokens: list[Token] = []
    for episode in chosen.tolist():
        first = len(streams)
        seats = range(given.table.spec.num_seats)
        streams += [full_stream(given.table, episodes, episode, seat) for seat in seats]
        for decision, seat, ids in behaviours_of(episodes, episode):
            if given.weight[episode, decision] == 0:
                continue
            prefix = int(given.table.lexicon.prefix_lengths[episodes.roles[episode, seat]])
            for choice in reply_of(given.table, episodes, episode, decision, ids).choices:
                at = int(made.start[episode, decision]) + choice.place
                recorded = float(episodes.log_probs[episode, seat, at])
                tokens.append(Token(episode, decision, first + seat, prefix + at, int(ids[choice.place]),
                                    choice.allowed, recorded, choice.section == "action"))  # fmt: skip
    return streams, tokens


@functools.cache
def plain_scores(policy: Policy) -> Any:
    """A program for log-probability, entropy and KL of tokens from full logits, and their pull-back to parameters."""

    def scores(params: Any, reference: Any, tokens: jax.Array, at: jax.Array, token: jax.Array, allowed: jax.Array):
        positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)

        def log_probs(params: Any) -> jax.Array:
            logits = policy.logits(params, policy.forward(params, tokens, positions, CausalAttention())[0])
            return jax.nn.log_softmax(jnp.where(allowed, logits[at[0], at[1] - 1], -1e9), axis=-1)

        own, other = log_probs(params), jax.lax.stop_gradient(log_probs(reference))
        probabilities = jnp.exp(own) * allowed
        picked = jnp.take_along_axis(own, token[:, None], axis=1)[:, 0]
        return picked, -jnp.sum(probabilities * own, axis=1), jnp.sum(probabilities * (own - other), axis=1)

    def with_gradient(params: Any, reference: Any, tokens: jax.Array, at: jax.Array, token: jax.Array,
                      allowed: jax.Array, towards: tuple) -> tuple:  # fmt: skip
        values, pull_back = jax.vjp(lambda params: scores(params, reference, tokens, at, token, allowed), params)
        return values, pull_back(towards)[0]

    return jax.jit(with_gradient)


def measures_exactly(options: CreditOptions) -> bool:
    """Whether KTO is given its reference's parameters."""
    return options.utility == "kto" and (options.reference_point == "token_kl" or options.reference != "iteration")


def plain_loss(
    given: Material,
    options: CreditOptions,
    entropy_weight: float,
    scale: float,
    chosen: np.ndarray = CHOSEN,
    magnet_weight: float = 0.0,
) -> tuple[float, Any, dict[str, Any]]:
    """The loss with a loop over behaviours: its value, its gradient and the sums for the log."""
    streams, tokens = tokens_of(given, chosen)
    width = max(map(len, streams))
    rows = np.stack([np.pad(stream, (0, width - len(stream))) for stream in streams]).astype(np.int32)
    allowed = np.zeros((len(tokens), given.table.policy.config.vocab_size), bool)
    for row, each in enumerate(tokens):
        allowed[row, list(each.allowed)] = True
    at = np.array([[each.stream for each in tokens], [each.place for each in tokens]])
    token = np.array([each.token for each in tokens])
    pull = functools.partial(plain_scores(given.table.policy), given.params, given.reference, rows, at, token, allowed)
    nothing = np.zeros(len(tokens), np.float32)
    values, _ = pull((nothing, nothing, nothing))
    log_prob, entropy, kl = (np.asarray(value, np.float64) for value in values)
    loss, slope = scale * (magnet_weight * kl.sum() - entropy_weight * entropy.sum()), np.zeros(len(tokens))
    recorded = np.array([each.recorded for each in tokens])
    known = recorded  # log-probabilities under KTO's reference
    if options.utility == "kto" and options.reference != "iteration":
        under = given.reference, given.reference, rows, at, token, allowed, (nothing, nothing, nothing)
        known = np.asarray(plain_scores(given.table.policy)(*under)[0][0], np.float64)
    saturated, clipped = 0, 0
    kl_of_phase, entropy_of_phase, behaviours_of_phase = np.zeros((3, len(given.point)))
    for episode, decision in sorted({(each.episode, each.decision) for each in tokens}):
        mine = [row for row, each in enumerate(tokens) if (each.episode, each.decision) == (episode, decision)]
        phase = int(given.episodes.behaviours.phase[episode, decision])
        sign, weight = float(given.sign[episode, decision]), float(given.weight[episode, decision])
        total = log_prob[mine].sum()
        moved, changed = total - recorded[mine].sum(), total - known[mine].sum()
        if options.utility in ("reinforce", "clone"):
            learnt = sign if options.utility == "reinforce" else max(sign, 0.0)
            loss += scale * -weight * learnt * total
            slope[mine] = scale * -weight * learnt
        elif options.utility == "ppo":
            ratio = np.exp(moved)
            held = min(max(ratio, 1 - options.clip), 1 + options.clip)
            loss += scale * -weight * min(sign * ratio, sign * held)
            slope[mine] = scale * -weight * sign * ratio * (sign * ratio <= sign * held)
        elif options.utility == "dro":
            loss += scale * weight * (options.beta / 2 * moved**2 - sign * moved)
            slope[mine] = scale * weight * (options.beta * moved - sign)
        else:
            bent = 1 / (1 + np.exp(-sign * options.beta * (changed - given.point[phase])))
            loss += scale * weight * 4 / options.beta * (1 - bent)
            slope[mine] = scale * weight * 4 / options.beta * -bent * (1 - bent) * sign * options.beta
        saturated += abs(options.beta * (changed - given.point[phase])) > 1
        clipped += np.exp(moved) > 1 + options.clip if sign > 0 else np.exp(moved) < 1 - options.clip
        if measures_exactly(options):
            kl_of_phase[phase] += kl[mine].sum()
        else:  # against the policy that played, as Σ ρ ln ρ − ρ + 1
            of_token = np.exp(log_prob[mine] - recorded[mine])
            kl_of_phase[phase] += (of_token * np.log(of_token) - of_token + 1).sum()
        entropy_of_phase[phase] += sum(entropy[row] for row in mine if tokens[row].action)
        behaviours_of_phase[phase] += 1
    bonus, pulled = (np.full(len(tokens), scale * weight, np.float32) for weight in (-entropy_weight, magnet_weight))
    _, gradient = pull((slope.astype(np.float32), bonus, pulled))
    sums = {
        "loss": loss,
        "entropy": entropy.sum(),
        "magnet_kl": kl.sum() if magnet_weight else 0,
        "tokens": len(tokens),
        "behaviours": behaviours_of_phase.sum(),
        "log_prob": log_prob.sum(),
        "saturated": saturated,
        "clipped": clipped,
        "action_entropy": entropy_of_phase,
        "kl": kl_of_phase,
        "phase_behaviours": behaviours_of_phase,
    }
    return loss, gradient, sums


def assert_close(one: Any, other: Any, tolerance: float = 1e-5) -> None:
    """‖a − b‖ / ‖a‖ within the tolerance for every leaf."""
    for (path, left), right in zip(jax.tree_util.tree_leaves_with_path(one), jax.tree.leaves(other), strict=True):
        left, right = np.asarray(left, np.float64), np.asarray(right, np.float64)
        distance, size = np.linalg.norm(left - right), np.linalg.norm(left)
        assert size > 0 and distance <= tolerance * size, (jax.tree_util.keystr(path), distance, size)
