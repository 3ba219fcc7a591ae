"""Conformity checks for a game, one's own or a third party's: `check_game(MyGame())`.

They hold what every game promises in `games.core`: fixed shapes, true bounds, absorbing ends, harmless illegal actions,
text that encodes in pieces as it does whole, and nothing that betrays a secret. They know nothing of a game's rules;
whether those are right is for an oracle to say.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from games.core import Game, GameSpec, State, view_of_actor
from games.players.scripted import Player, random_legal
from games.text.framing import TextTokenizer
from games.text.lexicon import build_lexicon, parse_template
from games.text.transcript import event_text

BEYOND = 2  # steps played after the longest game's end, which must change nothing

# Checks run a program once, so that compiling it matters more than its speed.
QUICKLY = {"xla_backend_optimization_level": 0}


class NotConforming(AssertionError):
    """A game breaks a promise of the protocol; the message says which, and where it was seen."""


@dataclasses.dataclass(frozen=True)
class Played:
    """Games of random play. E episodes, T steps (the state *before* each), N seats, A actions, M events.

    Attributes:
      phase, actor, step: int[E, T].
      outcome: float32[E, T, N].
      terminated, truncated: bool[E, T].
      legal: bool[E, T, A].
      acting: bool[E, T, N].
      size: int[E, T], rows of the log.
      action: int32[E, T].
      roles: int8[E, N].
      rows: int16[E, M, 4], the final log.
      audience: uint16[E, M].
      appended: bool[E, T], the step left all earlier rows as they were.
      absorbed: bool[E, T], the step changed nothing.
      lowest: bool[E, T], an illegal action did what the lowest legal one does.
    """

    phase: np.ndarray
    actor: np.ndarray
    step: np.ndarray
    outcome: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    legal: np.ndarray
    acting: np.ndarray
    size: np.ndarray
    action: np.ndarray
    roles: np.ndarray
    rows: np.ndarray
    audience: np.ndarray
    appended: np.ndarray
    absorbed: np.ndarray
    lowest: np.ndarray

    @property
    def over(self) -> np.ndarray:
        """bool[E, T]."""
        return self.terminated | self.truncated

    def turns(self) -> Iterator[tuple[int, int, int]]:
        """(episode, time, seat) of every decision, in order."""
        for episode, time in np.argwhere(self.actor >= 0).tolist():
            yield episode, time, int(self.actor[episode, time])


def check_game(game: Game, *, episodes: int = 200, seed: int = 0, player: Player = random_legal) -> Played:
    """Runs every check that needs no tokenizer.

    Args:
      game: the game, with the parameters to be checked.
      episodes: games of play; the more, the rarer the faults that are met.
      seed: of all chance.
      player: who decides; random play meets the most states.

    Returns:
      The games played, for checks of one's own.

    Raises:
      NotConforming: in one sentence.
    """
    check_spec(game.spec)
    check_types(game, seed)
    played = play(game, episodes, seed, player)
    check_play(game.spec, played)
    check_bounds(game.spec, played)
    check_hiding(game.spec, played)
    return played


def check_spec(spec: GameSpec) -> None:
    """Static promises: what refers to what, and labels that can be told apart."""
    hash(spec)
    _require(spec.phases[-1].name == "over", f"the last phase is {spec.phases[-1].name!r}; it must be 'over'")
    for role in spec.roles:
        _require(role.side in spec.sides, f"role {role.name!r} is on the side {role.side!r}, not one of {spec.sides}")
    _require(len(spec.role_texts) == len(spec.roles), "role_texts must have one entry for each role")
    _require(len(spec.scripted_speech) == spec.num_actions, "scripted_speech must have one entry for each action")
    labels = sorted(spec.action_labels)
    _require(len(set(labels)) == len(labels), "two actions have the same label")
    for label in labels:
        _require(label.startswith(" ") and label == label.rstrip(), f"label {label!r} must begin with its one space")
    words = dict(spec.words)
    for kind in spec.event_kinds:
        for piece, _ in parse_template(kind):
            known = piece in ("text", "utterance") or piece in words
            _require(known, f"event kind {kind.name!r} uses the word table {piece!r}, which is not in spec.words")
    kinds, phases = {kind.name for kind in spec.event_kinds}, {phase.name for phase in spec.phases}
    for names, bounded, what in ((kinds, spec.visible_events, "visible_events"), (phases, spec.turns, "turns")):
        unknown = {name for group, _ in bounded for name in group} - names
        _require(not unknown, f"{what} names {', '.join(sorted(unknown))}, which the spec does not have")


def check_types(game: Game, seed: int = 0) -> None:
    """Shapes and types never change; compiled, batched and plain steps agree; nothing calls the host."""
    key = jax.random.key(seed)
    abstract = jax.eval_shape(game.init, key)
    after = jax.eval_shape(game.step, abstract, jax.ShapeDtypeStruct((), jnp.int32), key)
    same = jax.tree.map(lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), abstract, after)
    _require(all(jax.tree.leaves(same)), f"step changes the shape or type of the state: {abstract} becomes {after}")
    for name, dtype in (("phase", "int8"), ("actor", "int8"), ("step", "int16"), ("roles", "int8"),
                        ("outcome", "float32"), ("terminated", "bool"), ("truncated", "bool")):  # fmt: skip
        found = getattr(abstract, name).dtype
        _require(found == dtype, f"state.{name} is {found}; it must be {dtype}")
    _require("callback" not in str(jax.make_jaxpr(game.step)(abstract, jnp.int32(0), key)), "step calls the host")
    keys = jax.random.split(key, 3)
    batched = jax.jit(jax.vmap(game.init), compiler_options=QUICKLY)(keys)
    action = jnp.argmax(jax.vmap(game.legal_action_mask)(batched), axis=1)
    batched_after = jax.jit(jax.vmap(game.step), compiler_options=QUICKLY)(batched, action, keys)
    plain = game.step(game.init(keys[1]), action[1], keys[1])
    equal = _equal(plain, jax.tree.map(lambda leaf: leaf[1], batched_after))
    _require(bool(equal), "a step under vmap and jit differs from the same step alone")


def check_play(spec: GameSpec, played: Played) -> None:
    """What must hold at every step, whatever the rules."""
    over, alive = played.over, ~played.over
    actor = np.where(over, 0, played.actor)

    def everywhere(holds: Any, sentence: str) -> None:
        if not holds.all():
            episode, time = np.argwhere(~holds)[0, :2].tolist()
            phase = spec.phases[played.phase[episode, time]].name
            raise NotConforming(f"{sentence} (episode {episode}, step {time}, phase {phase!r})")

    everywhere(over[:, -1:], f"a game is not over after max_decisions = {spec.max_decisions} decisions")
    everywhere(~(played.terminated & played.truncated), "a game is both terminated and truncated")
    everywhere((played.actor >= 0) == alive, "the actor must be -1 when the game is over, and only then")
    everywhere(played.actor < spec.num_seats, "the actor is no seat")
    everywhere((played.phase == len(spec.phases) - 1) == over, "the phase must be 'over' when the game is over")
    everywhere(played.legal.any(axis=-1), "no action is legal")
    everywhere(played.legal.all(axis=-1) | alive, "all actions must be legal once the game is over")
    acts = np.take_along_axis(played.acting, actor[..., None], axis=-1)[..., 0]
    everywhere(acts | over, "acting_mask leaves out the actor")
    everywhere(~played.acting.any(axis=-1) | alive, "acting_mask names somebody when the game is over")
    everywhere((np.abs(played.outcome) <= 1).all(axis=-1), "an outcome lies outside [-1, 1]")
    everywhere((played.outcome == 0).all(axis=-1) | over, "an outcome is set before the game is over")
    everywhere((played.outcome == 0).all(axis=-1) | ~played.truncated, "a truncated game has an outcome")
    everywhere(played.absorbed | alive, "a step after the end changes the state")
    everywhere(played.appended, "a step changes rows that were in the log before")
    everywhere(played.lowest, "an illegal action does not do what the lowest legal one does")
    counted = np.minimum(np.arange(over.shape[1]), alive.sum(axis=1)[:, None])
    everywhere(np.equal(played.step, counted), "step is miscounted")


def check_bounds(spec: GameSpec, played: Played) -> None:
    """The bounds that a stream's capacity is computed from are never exceeded."""
    most = int(played.size.max())
    _require(most <= spec.max_events, f"a log has {most} rows, more than max_events = {spec.max_events}")
    kinds = [kind.name for kind in spec.event_kinds]
    group_of = {name: index for index, (group, _) in enumerate(spec.visible_events) for name in group}
    phase_of = {name: index for index, (group, _) in enumerate(spec.turns) for name in group}
    shown: dict[tuple[int, int, int], int] = defaultdict(int)  # by episode, seat, group of kinds
    taken: dict[tuple[int, int, int], int] = defaultdict(int)  # by episode, seat, group of phases
    cursor: dict[tuple[int, int], int] = defaultdict(int)
    for episode, time, seat in played.turns():
        size = int(played.size[episode, time])
        new = size - cursor[episode, seat]
        _require(new <= spec.max_new_events, f"{new} rows come between two turns of a seat, more than max_new_events "
                 f"= {spec.max_new_events} (episode {episode}, step {time})")  # fmt: skip
        for row in range(cursor[episode, seat], size):
            if played.audience[episode, row] >> seat & 1:
                name = kinds[played.rows[episode, row, 0]]
                _require(name in group_of, f"a seat is shown {name!r}, which visible_events leaves out")
                shown[episode, seat, group_of[name]] += 1
        cursor[episode, seat] = size
        name = spec.phases[played.phase[episode, time]].name
        _require(name in phase_of, f"a seat replies in the phase {name!r}, which turns leaves out")
        taken[episode, seat, phase_of[name]] += 1
    for counted, bounds, what in ((shown, spec.visible_events, "rows of"), (taken, spec.turns, "replies in")):
        for (episode, seat, index), count in counted.items():
            group, bound = bounds[index]
            _require(count <= bound, f"seat {seat} has {count} {what} {', '.join(group)}, more than the {bound} that "
                     f"the spec states (episode {episode})")  # fmt: skip


def check_hiding(spec: GameSpec, played: Played) -> int:
    """Nothing leaks: seats that have read and done the same are in the same position.

    Two turns, of any two episodes, whose seats have the same role and have read and said the same so far, must have the
    same phase, the same legal actions and the same rows behind the words: else the mask, the order of acting or a field
    that no template shows would tell a player (or a scripted one) what its stream does not.

    Returns:
      How many turns had a counterpart to be compared with.
    """
    text = functools.cache(lambda row: event_text(spec, row, "") + (f"#{row[3]}" if _has_utterance(spec, row) else ""))
    read: dict[tuple[int, int], list[Any]] = defaultdict(list)
    behind: dict[tuple[int, int], list[Any]] = defaultdict(list)
    cursor: dict[tuple[int, int], int] = defaultdict(int)
    positions: dict[Any, tuple[Any, str]] = {}
    compared = 0
    for episode, time, seat in played.turns():
        life, size = (episode, seat), int(played.size[episode, time])
        for row in range(cursor[life], size):
            if played.audience[episode, row] >> seat & 1:
                fields = tuple(played.rows[episode, row].tolist())
                read[life].append(text(fields))
                behind[life].append(fields)
        cursor[life] = size
        known = (int(played.roles[episode, seat]), tuple(read[life]))
        position = (int(played.phase[episode, time]), played.legal[episode, time].tobytes(), tuple(behind[life]))
        where = f"episode {episode}, step {time}, seat {seat}"
        other, elsewhere = positions.setdefault(known, (position, where))
        compared += elsewhere != where
        for one, two, what in zip(position, other, ("phase", "legal actions", "rows of the log"), strict=True):
            _require(one == two, f"two seats with the same stream differ in their {what}: {where} and {elsewhere}")
        read[life].append(int(played.action[episode, time]))
    return compared


def check_text(spec: GameSpec, tokenizer: TextTokenizer) -> None:
    """Templates, prompts and labels encode in pieces as they do whole, and no label begins another.

    Args:
      spec: the game.
      tokenizer: of the model that is to play it.
    """
    words, encode = dict(spec.words), functools.cache(lambda text: tuple(tokenizer.encode(text)))
    starts = {phase.prompt for phase in spec.phases if phase.prompt}
    lines = [line for kind in spec.event_kinds for line in _wordings(parse_template(kind), words)]
    starts |= {pieces[0] for pieces in lines}
    spoken = [parse_template(kind) for kind in spec.event_kinds if "{utterance}" in kind.template]
    before_speech = [pieces for template in spoken for pieces in _wordings(template, words)]
    for start in sorted(starts):
        _require(start.startswith("\n"), f"{start!r} begins a line of a stream; it must begin with a newline")
    for pieces in lines:
        whole = encode("".join(pieces))
        _require(sum(map(encode, pieces), ()) == whole, f"{pieces} encode otherwise in pieces than as a whole")
        for start in starts if pieces not in before_speech else ():  # what is said is never encoded again
            follows = encode("".join(pieces) + start) == whole + encode(start)
            _require(follows, f"{''.join(pieces)!r} and {start!r} after it encode otherwise than each alone")
    labels = sorted(encode(label) for label in spec.action_labels)
    _require(len(set(labels)) == len(labels), "two labels encode to the same tokens")
    build_lexicon(spec, tokenizer, vocab_size=tokenizer.vocab_size, brief=tokenizer.family == "tiny")


def play(game: Game, episodes: int, seed: int, player: Player = random_legal) -> Played:
    """Plays games in one program, a little beyond the longest possible one."""

    def one(key: jax.Array) -> tuple[State, dict[str, jax.Array]]:
        state = game.init(jax.random.fold_in(key, 0))

        def turn(state: State, time: jax.Array) -> tuple[State, dict[str, jax.Array]]:
            act_key, step_key = jax.random.split(jax.random.fold_in(key, 1 + time))
            legal = game.legal_action_mask(state)
            action = player(view_of_actor(game, state), act_key)
            after = game.step(state, action, step_key)
            illegal = jnp.where(jnp.all(legal), legal.shape[0] + 3, jnp.argmin(legal)).astype(jnp.int32)
            lowest = jnp.argmax(legal).astype(jnp.int32)
            before = jnp.arange(state.log.rows.shape[0]) < state.log.size
            kept = (after.log.rows == state.log.rows).all(-1) & (after.log.audience == state.log.audience)
            facts = {
                **{name: getattr(state, name) for name in ("phase", "actor", "step", "outcome")},
                "terminated": state.terminated,
                "truncated": state.truncated,
                "legal": legal,
                "acting": game.acting_mask(state),
                "size": state.log.size,
                "action": action,
                "appended": jnp.all(kept | ~before) & (after.log.size >= state.log.size),
                "absorbed": _equal(state, after),
                "lowest": _equal(game.step(state, illegal, step_key), game.step(state, lowest, step_key)),
            }
            return after, facts

        return jax.lax.scan(turn, state, jnp.arange(game.spec.max_decisions + BEYOND))

    keys = jax.random.split(jax.random.key(seed), episodes)
    last, facts = jax.device_get(jax.jit(jax.vmap(one), compiler_options=QUICKLY)(keys))
    return Played(roles=last.roles, rows=last.log.rows, audience=last.log.audience, **facts)


def _equal(one: State, other: State) -> jax.Array:
    """bool[]: whether two states are the same."""
    return jnp.all(jnp.stack(jax.tree.leaves(jax.tree.map(lambda a, b: jnp.all(a == b), one, other))))


def _has_utterance(spec: GameSpec, row: tuple[int, ...]) -> bool:
    return "{utterance}" in spec.event_kinds[row[0]].template


def _wordings(pieces: list[tuple[str, str]], words: dict[str, tuple[str, ...]]) -> list[list[str]]:
    """Every wording of a template as its pieces; from an utterance on nothing is ever encoded again."""
    fields = sorted({content for piece, content in pieces if piece not in ("text", "utterance")})
    sizes = {field: min(len(words[piece]) for piece, content in pieces if content == field) for field in fields}
    wordings: list[list[str]] = []
    for values in np.ndindex(*(sizes[field] for field in fields)):
        chosen = dict(zip(fields, values, strict=True))
        spelled = [content if piece == "text" else words[piece][chosen[content]]
                   for piece, content in pieces if piece != "utterance"]  # fmt: skip
        wordings.append([piece for piece in spelled if piece])
    return wordings


def _require(holds: bool, sentence: str) -> None:
    if not holds:
        raise NotConforming(sentence)
