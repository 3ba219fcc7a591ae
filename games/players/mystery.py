"""Scripted murder mystery players: they read only their own view of the log.

The innocent take it that one suspect alone lies. Who did it is then the suspect without whose words everything that was
said, found and seen fits together; questions and searches go where that is open. They answer truthfully. The culprit
claims the room in which it knows that nobody was, tells of itself the rest as it was, and turns questions and
accusations on whoever else looks most like the culprit, so that others search for that one's trace and not for its own.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from games.core import SeatView
from games.mystery_spec import ABOUT, ANSWERS, CULPRIT, KIND, MOTIVES, NOTHING, OBJECTS, ROOMS, WHERE, layout

NOISE = 0.1  # scale of the Gumbel noise that keeps equal choices apart
CONFLICT = 4.0  # log-odds that each contradiction counts against a suspect's being the only liar
MATCH = 1.1  # log-odds of a suspect who is said to have had the weapon or the motive
TRACELESS = 0.7  # log-odds of a suspect of whom the emptied stack of the room it claims held no trace
REFUSAL = 1.5  # log-odds of a suspect who would not answer about itself
HEARSAY = 0.5  # log-odds of being suspected by somebody who is above suspicion; half as much against when trusted
CANDOUR = 1.0  # the more, the more often the culprit says truly what it carried and what drives it
DISCRETION = 0.2  # the more, the more rarely the culprit says of another what is true of itself
RESERVE = 0.25  # score of no opinion; that of suspecting somebody is the probability that they did it
TRUST = 0.3  # score of trusting somebody who is cleared
BLOCK = np.repeat(np.eye(3), [len(ROOMS), len(OBJECTS), len(MOTIVES)], axis=0)  # which answers are of one kind
SCRIPT = ("was", "carried", "driven", "object_of", "drive_of", "saw")


def heuristic(view: SeatView, key: jax.Array) -> jax.Array:
    """int32[]: the action of a sensible player with what `view` shows."""
    num_actions = view.legal.shape[0]
    num_seats = (num_actions - len(ROOMS) - ABOUT - ANSWERS - 3) // 5
    evidence = Evidence(view, num_seats)
    choice = jax.tree.map(
        lambda guilty, innocent: jnp.where(view.role == CULPRIT, guilty, innocent),
        _culprit(evidence),
        _innocent(evidence),
    )
    scores = _scores(view, evidence, choice) + NOISE * jax.random.gumbel(key, (num_actions,))
    return jnp.argmax(jnp.where(view.legal, scores, -jnp.inf)).astype(jnp.int32)


class Evidence:
    """The log as tables; N seats, V = 14 facts (rooms, objects, motives).

    Attributes:
      me: bool[N].
      claims: f32[N, N, V], 1 for what each seat (row) has said of each seat, 0 for the rest.
      known: f32[N, V], 1 for what this seat knows of each, and for traces.
      own: f32[V], 1 for the room, object and motive of its script.
      scene, weapon, motive: f32[V], 1 for the room of the murder, for the weapon and the motive if they are known.
      empty: f32[V], 1 for the room in which the culprit knows that nobody was.
      emptied: bool[rooms].
      asked: f32[N, questions], 1 for what each seat was asked already.
      question: int[], what this seat was asked last.
      subject: f32[N], 1 for the seat that it was asked about.
      refused: bool[N], seats that answered nothing about themselves.
      suspicion: f32[N], probability that each seat did it.
    """

    def __init__(self, view: SeatView, num_seats: int):
        kind, actor, target, value = (view.rows[:, column] for column in range(4))
        seats, facts = jnp.arange(num_seats), jnp.arange(NOTHING)

        def rows(*names: str) -> jax.Array:
            return jnp.isin(kind, np.array([KIND[name] for name in names]))

        def latest(name: str) -> jax.Array:
            return jnp.max(jnp.where(rows(name), value, -1))

        def table(here: jax.Array, one: jax.Array, other: jax.Array) -> jax.Array:
            return jnp.minimum(jnp.einsum("m,ma,mb->ab", here.astype(jnp.float32), one, other), 1.0)

        self.me = seats == view.seat
        by, about = ((who[:, None] == seats).astype(jnp.float32) for who in (actor, target))
        said = (value[:, None] == facts).astype(jnp.float32)
        answered = rows("answer").astype(jnp.float32)
        self.claims = jnp.minimum(jnp.einsum("m,ma,mb,mv->abv", answered, by, about, said), 1.0)
        # What it was told of itself and of others, what it saw, and every trace; the culprit trusts in traces only.
        subject = jnp.where(rows("was", "carried", "driven")[:, None], by, about)
        there = jnp.where(rows("saw")[:, None], facts == latest("was"), said)
        told = rows(*SCRIPT) & (view.role != CULPRIT)
        self.known = table(told | rows("trace"), subject, there)
        self.own = jnp.any(said * rows("was", "carried", "driven")[:, None] > 0, axis=0).astype(jnp.float32)
        self.scene, self.weapon, self.motive, self.empty = (
            (facts == latest(name)).astype(jnp.float32) for name in ("scene", "weapon", "motive", "empty")
        )
        self.emptied = jnp.sum(said * rows("no_clue")[:, None], axis=0)[: len(ROOMS)] > 0
        asks = (value[:, None] == jnp.arange(ABOUT + num_seats)).astype(jnp.float32)
        self.asked = table(rows("ask"), about, asks)
        self.question = value[jnp.max(jnp.where(rows("ask") & (target == view.seat), jnp.arange(len(kind)), 0))]
        self.subject = jnp.where(self.question < ABOUT, self.me, seats == self.question - ABOUT).astype(jnp.float32)
        self.refused = jnp.any((rows("answer") & (actor == target) & (value == NOTHING))[:, None] * by > 0, axis=0)
        unseen = (facts == latest("was")) * (1.0 - self.known) * (view.role != CULPRIT)
        score = self._fit(unseen)
        opinions = table(rows("suspect"), by, about) - 0.5 * table(rows("trust"), by, about)
        heard = (1.0 - jax.nn.softmax(score)) * ~self.me @ opinions
        self.suspicion = jax.nn.softmax(score + HEARSAY * heard)

    def _fit(self, unseen: jax.Array) -> jax.Array:
        """f32[N]: log-probability that each seat did it, so that it alone may lie.

        Args:
          unseen: f32[N, V], what cannot be, because this seat was there and did not see them.
        """
        num_seats = self.me.shape[0]
        self_said = jnp.eye(num_seats)[:, :, None]
        others = jnp.minimum(jnp.sum(self.claims, axis=0) - self.claims + self.known, 1.0)  # [suspect, of whom, fact]
        twice = jnp.sum(jnp.maximum(others @ BLOCK - 1.0, 0.0), axis=(1, 2))
        blocks = (self.scene, self.weapon, self.motive)
        # Of the suspect nobody may say another room, object or motive than the culprit's, of others not the scene.
        wrong = sum(jnp.sum(fact) * (BLOCK[:, place] - fact) for place, fact in enumerate(blocks))
        impossible = self_said * wrong + (1.0 - self_said) * self.scene + unseen
        conflicts = twice + jnp.sum(others * impossible, axis=(1, 2))
        of_suspect = jnp.einsum("sqv,sq->sv", others, jnp.eye(num_seats))
        match = of_suspect @ (self.weapon + self.motive)
        claimed = jnp.einsum("ssv->sv", self.claims)[:, : len(ROOMS)]
        traceless = (claimed @ self.emptied) * (1.0 - jnp.max(self.known[:, : len(ROOMS)], axis=1))
        signs = MATCH * match + TRACELESS * traceless + REFUSAL * self.refused
        return signs - CONFLICT * conflicts - 1e4 * self.me


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Choice:
    """Scores of what a role does in its own way.

    Attributes:
      questions: f32[N, questions], of asking each seat each question.
      rooms: f32[rooms], of searching each room.
      answers: f32[answers].
      show: f32[], of showing a clue; to keep it is 0.
      accuse: f32[], of suspecting anybody, besides how probable it is that they did it.
    """

    questions: jax.Array
    rooms: jax.Array
    answers: jax.Array
    show: jax.Array
    accuse: jax.Array


def _innocent(evidence: Evidence) -> _Choice:
    """An innocent's scores: it asks and searches where that may tell most of those it suspects."""
    suspicion = evidence.suspicion
    claimed = jnp.einsum("ssv->sv", evidence.claims)[:, : len(ROOMS)]
    somewhere = jnp.where(jnp.sum(claimed, axis=1, keepdims=True) > 0, claimed, 1.0 / len(ROOMS))
    rooms = 2.0 * suspicion @ somewhere
    # Who is asked for a fact that this seat knows is caught lying.
    catches = jnp.array([2.0, 0.5, 0.5]) + jnp.array([0.0, 1.0, 1.0]) * (evidence.known @ BLOCK > 0)
    about = 0.8 * (1.0 - suspicion)[:, None] * suspicion
    questions = jnp.concatenate([suspicion[:, None] * catches, about], axis=1) * (1.0 - evidence.asked)
    show, accuse = jnp.float32(10.0), jnp.float32(0.0)
    return _Choice(questions, rooms * ~evidence.emptied, 10.0 * _truth(evidence), show, accuse)


def _truth(evidence: Evidence) -> jax.Array:
    """f32[answers]: 1 for a true answer to the last question; of others, rather where they were than the rest."""
    myself = evidence.question < ABOUT
    wanted = jnp.where(myself, BLOCK @ (jnp.arange(3) == evidence.question), BLOCK @ np.array([3.0, 2.0, 1.0]))
    worth = jnp.append(evidence.subject @ evidence.known * wanted, 0.1)
    return (jnp.arange(ANSWERS) == jnp.argmax(worth)).astype(jnp.float32)


def _culprit(evidence: Evidence) -> _Choice:
    """The culprit's scores: it asks whom it can best accuse where they were, and finds nothing that it can help."""
    rooms = -1.0 * ~evidence.emptied
    where = jnp.arange(evidence.asked.shape[1]) == WHERE
    questions = 2.0 * evidence.suspicion[:, None] * where * (1.0 - evidence.asked)
    return _Choice(questions, rooms, _lie(evidence), show=jnp.float32(-10.0), accuse=jnp.float32(1.0))


def _lie(evidence: Evidence) -> jax.Array:
    """f32[answers]: of itself, that it was in the empty room; of another, nothing or what is true of itself."""
    subject, myself = evidence.subject, evidence.question < ABOUT
    before = subject @ jnp.einsum("a,abv->bv", evidence.me.astype(jnp.float32), evidence.claims)
    room = BLOCK[:, 0]
    of_itself = jnp.where(room > 0, 5.0 * evidence.empty, CANDOUR * evidence.own)
    said = subject @ jnp.sum(evidence.claims, axis=0) @ BLOCK
    frames = (BLOCK @ (said == 0)) * (1.0 - jnp.max(subject @ evidence.known)) * (1.0 - room) * evidence.own
    of_others = jnp.where(frames > 0, 0.0, -5.0)
    facts = jnp.where(myself, of_itself, of_others) + 10.0 * before
    return jnp.append(facts, jnp.where(myself, -3.0, DISCRETION))


def _scores(view: SeatView, evidence: Evidence, choice: _Choice) -> jax.Array:
    """f32[A] from a role's choice; both roles suspect and vote by the evidence."""
    first, suspicion = layout(evidence.me.shape[0]), evidence.suspicion
    about = jnp.arange(len(suspicion))
    silly = jnp.pad((about[:, None] == about) | evidence.me, ((0, 0), (ABOUT, 0)))  # about itself or about the asker
    asks = jnp.max(jnp.where(silly, -1e4, choice.questions), axis=1)
    # Whom it is asking: apart from itself the only seat that it cannot ask about.
    asked = ~view.legal[first["question"] + ABOUT : first["answer"]] & ~evidence.me
    trust = TRUST * (suspicion < 0.02)
    return jnp.concatenate(
        [
            asks,
            choice.rooms,
            asked @ choice.questions,
            choice.answers,
            jnp.stack([choice.show, jnp.float32(0.0)]),
            suspicion + choice.accuse,
            trust,
            jnp.full((1,), RESERVE),
            5.0 * suspicion,
        ]
    )
