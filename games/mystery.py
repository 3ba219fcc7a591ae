"""Murder mystery: suspects pool what they know, and one lies. The rules are written out in docs/games/mystery.md."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from games import core
from games.core import EventKind, EventLog, GameError, GameSpec, Phase, Role, State, audience_of, event

INNOCENT, CULPRIT = range(2)
ROLES = (Role("innocent", "innocents"), Role("culprit", "culprit"))
ROOMS = ("library", "kitchen", "cellar", "garden", "attic", "study")
OBJECTS = ("knife", "rope", "pistol", "hammer")
MOTIVES = ("greed", "envy", "revenge", "fear")

TURN, QUESTION, ANSWER, SHOW, OPINION, VOTE, OVER = range(7)
WHERE, WHAT, WHY, ABOUT = range(4)  # questions; ABOUT + i is the one about seat i
NO_CLUE = -1  # other clues: seat i is a trace of seat i, then follow the weapon and the motive
MOST_ROUNDS = 6
CLUES, VERDICTS, TIES = ("public", "finder"), ("votes", "doubt"), ("acquit", "lot")

ANSWERS = len(ROOMS) + len(OBJECTS) + len(MOTIVES) + 1
FIRST_OBJECT, FIRST_MOTIVE, NOTHING = len(ROOMS), len(ROOMS) + len(OBJECTS), ANSWERS - 1

EVENT_KINDS = (
    EventKind("seat", "\nYou are{seat:actor}"),
    EventKind("was", "\nYou were in{answer:value}"),
    EventKind("saw", "\nYou saw{seat:target} there"),
    EventKind("alone", "\nYou were alone there"),
    EventKind("carried", "\nYou carried{answer:value}"),
    EventKind("driven", "\nYou are driven by{answer:value}"),
    EventKind("object_of", "{line:target} carried{answer:value}"),
    EventKind("drive_of", "{line:target} is driven by{answer:value}"),
    EventKind("empty", "\nNobody was in{answer:value}"),
    EventKind("scene", "\nThe victim was killed in{answer:value}"),
    EventKind("round", "\nRound{number:value}"),
    EventKind("search", "{line:actor} searches{answer:value}"),
    EventKind("trace", "\nClue:{seat:target} was in{answer:value}"),
    EventKind("weapon", "\nClue: the murderer carried{answer:value}"),
    EventKind("motive", "\nClue: the murderer was driven by{answer:value}"),
    EventKind("no_clue", "\nNo clue is left in{answer:value}"),
    EventKind("utterance", "{line:actor} says:{utterance}"),
    EventKind("ask", "{line:actor} asks{seat:target}{question:value}"),
    EventKind("answer", "{speaker:actor}{answer:value}"),
    EventKind("suspect", "{line:actor} suspects{seat:target}"),
    EventKind("trust", "{line:actor} trusts{seat:target}"),
    EventKind("pass", "{speaker:actor} pass"),
    EventKind("vote", "{voter:actor}{seat:target}"),
    EventKind("convicted", "{line:target} is convicted"),
    EventKind("acquitted", "\nNobody is convicted"),
    EventKind("win", "{winner:value}"),
)
KIND = {kind.name: index for index, kind in enumerate(EVENT_KINDS)}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MysteryState(State):
    """The common fields and what the rules need to remember.

    Attributes:
      scene: int8[], room of the crime.
      weapon: int8[], what the culprit carried.
      motive: int8[], what drives the culprit.
      stacks: int8[rooms, N + 2], clues of each room from the top, then `NO_CLUE`.
      drawn: int8[rooms], clues drawn from each stack.
      round: int8[], round in progress, from 0.
      seat: int8[], whose turn it is.
      acts: int8[], questions and searches of this turn that are over.
      asked: int8[], the seat that was asked last.
      question: int8[], what it was asked.
      clue: int16[4], the row that tells of the clue drawn last.
      doubt: int16[N], how often each seat was said to be suspected, less how often to be trusted.
      ballots: int8[N], whom each seat votes for, -1 for no vote yet.
    """

    scene: jax.Array
    weapon: jax.Array
    motive: jax.Array
    stacks: jax.Array
    drawn: jax.Array
    round: jax.Array
    seat: jax.Array
    acts: jax.Array
    asked: jax.Array
    question: jax.Array
    clue: jax.Array
    doubt: jax.Array
    ballots: jax.Array


@dataclasses.dataclass(frozen=True)
class _Case:
    """What happened; N seats.

    Attributes:
      at: int8[N], room at the hour of the crime.
      empty: int8[], room in which nobody was, as the culprit knows.
      carried: int8[N], object.
      driven: int8[N], motive.
      friend: int8[N], the seat of which each seat knows one thing.
      knows_motive: bool[N], whether that is the motive, else the object.
      leaves_trace: bool[N].
    """

    at: jax.Array
    empty: jax.Array
    carried: jax.Array
    driven: jax.Array
    friend: jax.Array
    knows_motive: jax.Array
    leaves_trace: jax.Array


@dataclasses.dataclass(frozen=True)
class _Turn:
    """What one decision led to; all fields are bool[] but `convicted` int8[], the seat or -1."""

    searched: jax.Array
    shown: jax.Array
    act_over: jax.Array
    to_opinion: jax.Array
    turn_over: jax.Array
    new_round: jax.Array
    to_vote: jax.Array
    polled: jax.Array
    convicted: jax.Array
    caught: jax.Array


@dataclasses.dataclass(frozen=True)
class Mystery:
    """`mystery-v0`. Parameters and their allowed values: docs/games/mystery.md.

    Raises:
      GameError: if a parameter has a value that is not allowed.
    """

    num_seats: int = 5
    rounds: int = 1
    acts: int = 1
    rooms: int = 6
    objects: int = 3
    motives: int = 3
    trace_percent: int = 25
    clues: str = "public"
    opinions: bool = True
    verdict: str = "votes"
    ties: str = "acquit"
    speech_tokens: int = 0
    thought_tokens: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("num_seats", 3, 8), ("rounds", 1, MOST_ROUNDS), ("acts", 1, 3), ("rooms", 4, len(ROOMS)),
            ("objects", 2, len(OBJECTS)), ("motives", 2, len(MOTIVES)), ("trace_percent", 0, 100),
            ("speech_tokens", 0, 4096), ("thought_tokens", 0, 4096),
        ):  # fmt: skip
            value = getattr(self, name)
            if not low <= value <= high:
                raise GameError(f"mystery-v0: {name} is between {low} and {high}, not {value}")
        for name, allowed in (("clues", CLUES), ("verdict", VERDICTS), ("ties", TIES)):
            value = getattr(self, name)
            if value not in allowed:
                raise GameError(f"mystery-v0: {name} is one of {', '.join(allowed)}, not {value!r}")
        if self.verdict == "doubt" and not self.opinions:
            raise GameError("mystery-v0: verdict is votes while opinions is false, not 'doubt'")

    # ------------------------------------------------------------------ static facts

    @property
    def spec(self) -> GameSpec:
        """The static description of this variant."""
        n = self.num_seats
        speech, opinions = int(self.speech_tokens > 0), int(self.opinions)
        act_rows = max(2 + 2 * speech, 2 + (self.clues == "finder"))
        turn_rows = self.acts * act_rows + opinions * (1 + speech)
        sightings = (n - 1) * (n - 2) + 1  # all the innocents in one room, and the culprit alone
        dealt = 5 * n + sightings + 2
        return GameSpec(
            name="mystery-v0",
            num_seats=n,
            roles=ROLES,
            sides=("innocents", "culprit"),
            phases=self._phases(),
            action_labels=action_labels(n),
            event_kinds=EVENT_KINDS,
            words=words(n),
            introduction=(self._introduction(), ""),
            role_texts=(
                ("You are innocent. Find the culprit, and convince the others.", "You are innocent"),
                ("You are the culprit. Make the others convict somebody else.", "You are the culprit"),
            ),
            max_decisions=self.rounds * n * (3 * self.acts + opinions) + n,
            max_events=dealt + self.rounds * (1 + n * turn_rows) + n + 2,
            max_new_events=dealt + 1 + (n - 1) * turn_rows,
            scripted_speech=scripted_speech(n),
            visible_events=self._visible_events(),
            turns=(
                (("turn",), self.rounds * self.acts),
                (("question", "show"), self.rounds * self.acts),
                (("answer",), (n - 1) * self.rounds * self.acts),
                (("opinion",), self.rounds * opinions),
                (("vote",), 1),
            ),
            parameters=tuple(sorted(dataclasses.asdict(self).items())),
        )

    def _phases(self) -> tuple[Phase, ...]:
        thought, speech = self.thought_tokens, self.speech_tokens
        return (
            Phase("turn", "\nAsk a player or search a room", thought),
            Phase("question", "\nChoose your question", thought, speech),
            Phase("answer", "\nAnswer", thought, speech),
            Phase("show", "\nShow the clue or keep it", thought),
            Phase("opinion", "\nWhom do you suspect or trust", thought, speech),
            Phase("vote", "\nVote", thought),
            Phase("over"),
        )

    def _visible_events(self) -> tuple[tuple[tuple[str, ...], int], ...]:
        """The most rows one seat can be shown, by kinds that exclude each other."""
        n, opinions = self.num_seats, self.rounds * self.opinions
        acts = self.rounds * self.acts
        spoken = acts * (2 * (n - 1) + 1) + opinions * (n - 1)
        script = ("seat", "was", "carried", "driven", "empty", "scene")
        return (
            *(((kind,), 1) for kind in script),
            (("saw", "alone"), n - 2),
            (("object_of", "drive_of"), 1),
            (("round",), self.rounds),
            (("utterance",), spoken * (self.speech_tokens > 0)),
            (("ask", "search"), (n - 1) * acts),
            (("answer", "trace", "weapon", "motive", "no_clue"), n * acts),
            (("suspect", "trust", "pass"), (n - 1) * opinions),
        )

    def _introduction(self) -> str:
        n, rounds, acts = self.num_seats, self.rounds, self.acts
        tables = ((ROOMS, self.rooms), (OBJECTS, self.objects), (MOTIVES, self.motives))
        rooms, objects, motives = (", ".join(names[:count]) for names, count in tables)
        when = "Everybody in turn" if rounds == 1 else f"In each of {rounds} rounds everybody in turn"
        times = "" if acts == 1 else f" {acts} times"
        clue = {"public": "is told to all", "finder": "whoever searches may show or keep"}[self.clues]
        opinion = "Each then says whom they suspect or trust. " if self.opinions else ""
        verdict = {
            "votes": "whoever gets the most votes is convicted",
            "doubt": f"a vote counts {n}, each time somebody was said to be suspected 1, to be trusted -1, and the "
            "highest sum is convicted",
        }[self.verdict]
        tied = {"acquit": "on a tie nobody is", "lot": "a tie is broken by lot"}[self.ties]
        return (
            f"One of {n} suspects has committed a murder. At that hour each was in one room ({rooms}), carried one "
            f"object ({objects}) and was driven by one motive ({motives}); whoever was in the room of the murder did "
            "it. Each saw who was in the same room, and knows the object or the motive of one other; the culprit knows "
            "a room in which nobody was. Somewhere there is a clue to the culprit's object and one to the motive; "
            "other clues tell who was in the room where they are found. "
            f"{when} asks a player or searches a room{times}. A search draws a clue, which {clue}. {opinion}"
            f"Anyone may lie. At last all vote: {verdict}, {tied}. The "
            "innocents win if the culprit is convicted, else the culprit wins. "
        )

    # ------------------------------------------------------------------ the four functions

    def init(self, key: jax.Array) -> MysteryState:
        """Makes up a case, deals the scripts and opens the first round."""
        n, zero = self.num_seats, jnp.int8(0)
        deal_key, case_key, stacks_key = jax.random.split(key, 3)
        is_culprit = jax.random.permutation(deal_key, np.arange(n) == 0)
        case, culprit = self._case(is_culprit, case_key), jnp.argmax(is_culprit)
        scene = case.at[culprit]
        return MysteryState(
            phase=jnp.int8(TURN),
            actor=zero,
            step=jnp.int16(0),
            roles=jnp.where(is_culprit, CULPRIT, INNOCENT).astype(jnp.int8),
            outcome=jnp.zeros((n,), jnp.float32),
            terminated=jnp.bool_(False),
            truncated=jnp.bool_(False),
            log=self._log_deal(case, is_culprit, scene),
            scene=scene,
            weapon=case.carried[culprit],
            motive=case.driven[culprit],
            stacks=self._stacks(case, stacks_key),
            drawn=jnp.zeros((self.rooms,), jnp.int8),
            round=zero,
            seat=zero,
            acts=zero,
            asked=zero,
            question=zero,
            clue=event(KIND["no_clue"]),
            doubt=jnp.zeros((n,), jnp.int16),
            ballots=jnp.full((n,), core.NO_ONE, jnp.int8),
        )

    def legal_action_mask(self, state: MysteryState) -> jax.Array:
        """bool[A] of the acting seat; all True once over."""
        phase, question = state.phase, state.question
        seats = jnp.arange(self.num_seats)
        others = seats != state.actor
        answering, anything = phase == ANSWER, question >= ABOUT
        blocks: list[Any] = [
            others & (phase == TURN),
            (np.arange(len(ROOMS)) < self.rooms) & (phase == TURN),
            jnp.tile(phase == QUESTION, ABOUT),
            others & (seats != state.asked) & (phase == QUESTION),
            (np.arange(len(ROOMS)) < self.rooms) & answering & ((question == WHERE) | anything),
            (np.arange(len(OBJECTS)) < self.objects) & answering & ((question == WHAT) | anything),
            (np.arange(len(MOTIVES)) < self.motives) & answering & ((question == WHY) | anything),
            answering[None],
            jnp.tile(phase == SHOW, 2),
            jnp.tile(others & (phase == OPINION), 2),
            (phase == OPINION)[None],
            others & (phase == VOTE),
        ]
        return jnp.concatenate(blocks) | state.over

    def acting_mask(self, state: MysteryState) -> jax.Array:
        """bool[N]: the actor; in the vote everybody who has still to vote."""
        actor = jnp.arange(self.num_seats) == state.actor
        return jnp.where(state.phase == VOTE, state.ballots < 0, actor) & ~state.over

    def step(self, state: MysteryState, action: jax.Array, key: jax.Array) -> MysteryState:
        """Plays one decision and everything that follows from it until the next one; `key` breaks a tie by lot."""
        n = self.num_seats
        legal = self.legal_action_mask(state)
        known = (action >= 0) & (action < legal.shape[0])
        allowed = known & legal[jnp.clip(action, 0, legal.shape[0] - 1)]
        action = jnp.where(allowed, action, jnp.argmax(legal)).astype(jnp.int8)
        acted = self._remember(state, action)
        turn = self._turn(state, acted, action, key)
        log = self._log_step(self._log_act(state, acted, action, turn), acted, turn)

        asks = (state.phase == TURN) & ~turn.searched
        seat_over = turn.turn_over.astype(jnp.int8)
        phase = jnp.select(
            [turn.polled, turn.to_vote | (state.phase == VOTE), asks, state.phase == QUESTION,
             turn.searched & ~turn.act_over, turn.to_opinion],
            [jnp.int8(phase) for phase in (OVER, VOTE, QUESTION, ANSWER, SHOW, OPINION)],
            jnp.int8(TURN),
        )  # fmt: skip
        outcome = jnp.where((state.roles == CULPRIT) ^ turn.caught, 1.0, -1.0)
        after = dataclasses.replace(
            acted,
            phase=phase,
            step=state.step + jnp.int16(1),
            outcome=jnp.where(turn.polled, outcome, 0.0).astype(jnp.float32),
            terminated=turn.polled,
            log=log,
            round=acted.round + turn.new_round.astype(jnp.int8),
            seat=((acted.seat + seat_over) % n).astype(jnp.int8),
            acts=jnp.where(turn.turn_over, 0, acted.acts + turn.act_over).astype(jnp.int8),
        )
        after = dataclasses.replace(after, actor=self._actor(after))
        return jax.tree.map(lambda old, new: jnp.where(state.over, old, new), state, after)

    # ------------------------------------------------------------------ the case

    def _case(self, is_culprit: jax.Array, key: jax.Array) -> _Case:
        """Makes up what everybody did; a trace clears each innocent whom no other innocent's script clears."""
        n, culprit = self.num_seats, jnp.argmax(is_culprit)
        scene_key, empty_key, room_key, object_key, drive_key, ring_key, know_key, trace_key = jax.random.split(key, 8)
        scene = jax.random.randint(scene_key, (), 0, self.rooms)
        empty = jax.random.randint(empty_key, (), 1, self.rooms)  # this many rooms after the scene
        away = jax.random.randint(room_key, (n,), 1, self.rooms - 1)
        away = jnp.where(is_culprit, 0, away + (away >= empty))
        at = ((scene + away) % self.rooms).astype(jnp.int8)
        carried = jax.random.randint(object_key, (n,), 0, self.objects).astype(jnp.int8)
        driven = jax.random.randint(drive_key, (n,), 0, self.motives).astype(jnp.int8)
        # In a ring of all seats each knows one thing of the next one.
        ring = jax.random.permutation(ring_key, jnp.arange(n, dtype=jnp.int8))
        friend, witness = (jnp.zeros((n,), jnp.int8).at[ring].set(jnp.roll(ring, by)) for by in (-1, 1))
        knows_motive = jax.random.bernoulli(know_key, 0.5, (n,))
        differs = jnp.where(knows_motive[witness], driven != driven[culprit], carried != carried[culprit])
        seen = jnp.sum(at[:, None] == at, axis=1) > 1
        cleared = seen | (differs & ~is_culprit[witness])
        leaves = jax.random.randint(trace_key, (n,), 0, 100) < self.trace_percent
        return _Case(
            at=at,
            empty=((scene + empty) % self.rooms).astype(jnp.int8),
            carried=carried,
            driven=driven,
            friend=friend,
            knows_motive=knows_motive,
            leaves_trace=~is_culprit & (leaves | ~cleared),
        )

    def _stacks(self, case: _Case, key: jax.Array) -> jax.Array:
        """int8[rooms, N + 2]: traces where they were left, weapon and motive anywhere, each stack shuffled."""
        n = self.num_seats
        hide_key, order_key = jax.random.split(key)
        hidden = jax.random.randint(hide_key, (2,), 0, self.rooms, jnp.int8)
        room, present = jnp.append(case.at, hidden), jnp.append(case.leaves_trace, np.ones(2, bool))
        order = jax.random.permutation(order_key, n + 2)
        above = (room[:, None] == room) & present & (order < order[:, None])
        depth = jnp.where(present, jnp.sum(above, axis=1), n + 2)
        stacks = jnp.full((self.rooms, n + 2), NO_CLUE, jnp.int8)
        return stacks.at[room, depth].set(jnp.arange(n + 2, dtype=jnp.int8), mode="drop")

    # ------------------------------------------------------------------ turns

    def _actor(self, state: MysteryState) -> jax.Array:
        """int8[]: who decides next; -1 once over."""
        voter = jnp.argmax(state.ballots < 0)
        candidates = [state.seat, state.seat, state.asked, state.seat, state.seat, voter, core.NO_ONE]
        return jnp.stack([jnp.asarray(seat, jnp.int8) for seat in candidates])[state.phase]

    def _remember(self, state: MysteryState, action: jax.Array) -> MysteryState:
        """Stores what was asked, drawn, said of others or voted."""
        phase, first = state.phase, layout(self.num_seats)
        seats = jnp.arange(self.num_seats)
        asks = (phase == TURN) & (action < first["search"])
        searches = (phase == TURN) & ~asks
        room = jnp.clip(action - first["search"], 0, self.rooms - 1)
        clue = self._clue_row(state, room)
        drawn = (np.arange(self.rooms) == room) & searches & (clue[0] != KIND["no_clue"])
        opinion = (action == first["suspect"] + seats).astype(jnp.int16) - (action == first["trust"] + seats)
        mine = (phase == VOTE) & (seats == state.actor)
        question = action - first["question"]
        return dataclasses.replace(
            state,
            drawn=state.drawn + drawn.astype(jnp.int8),
            asked=jnp.where(asks, action, state.asked),
            question=jnp.where(phase == QUESTION, question, state.question).astype(jnp.int8),
            clue=jnp.where(searches, clue, state.clue),
            doubt=state.doubt + jnp.where(phase == OPINION, opinion, 0).astype(jnp.int16),
            ballots=jnp.where(mine, action - first["vote"], state.ballots).astype(jnp.int8),
        )

    def _turn(self, state: MysteryState, acted: MysteryState, action: jax.Array, key: jax.Array) -> _Turn:
        """What follows from the decision that `acted` has stored."""
        n, phase, first = self.num_seats, state.phase, layout(self.num_seats)
        searched = (phase == TURN) & (action >= first["search"])
        act_over = (phase == ANSWER) | (phase == SHOW) | (searched & (self.clues == "public"))
        spent = act_over & (state.acts + 1 == self.acts)
        turn_over = (phase == OPINION) | (spent & (not self.opinions))
        round_over = turn_over & (state.seat == n - 1)
        new_round = round_over & (state.round + 1 < self.rounds)
        polled = (phase == VOTE) & jnp.all(acted.ballots >= 0)
        convicted = self._convicted(acted, key)
        return _Turn(
            searched=searched,
            shown=(phase == SHOW) & (action == first["show"]),
            act_over=act_over,
            to_opinion=spent & self.opinions,
            turn_over=turn_over,
            new_round=new_round,
            to_vote=round_over & ~new_round,
            polled=polled,
            convicted=convicted,
            caught=polled & (convicted == jnp.argmax(state.roles == CULPRIT)),
        )

    def _convicted(self, state: MysteryState, key: jax.Array) -> jax.Array:
        """int8[]: who is convicted by the ballots, -1 for nobody."""
        n = self.num_seats
        score = jnp.sum(state.ballots[:, None] == jnp.arange(n), axis=0)
        if self.verdict == "doubt":
            score = n * score + state.doubt
        top = score == jnp.max(score)
        drawn = jnp.argmax(jnp.where(top, jax.random.uniform(key, (n,)), -1.0))
        sure = (jnp.sum(top) == 1) | (self.ties == "lot")
        return jnp.where(sure, drawn, core.NO_ONE).astype(jnp.int8)

    # ------------------------------------------------------------------ what is told to whom

    def _log_deal(self, case: _Case, is_culprit: jax.Array, scene: jax.Array) -> EventLog:
        """Deals each seat its script, then tells everybody the room of the crime; opens the first round."""
        n = self.num_seats
        seats, everybody = np.arange(n), (1 << n) - 1
        together = (case.at[:, None] == case.at) & ~np.eye(n, dtype=bool)
        alone = ~jnp.any(together, axis=1)
        myself = np.eye(n, dtype=bool)
        sightings = _rows(n * n, np.where(myself, KIND["alone"], KIND["saw"]).ravel(), np.repeat(seats, n),
                          np.where(myself, core.NO_ONE, seats).ravel())  # fmt: skip
        friend, knows_motive = case.friend, case.knows_motive
        fact = jnp.where(knows_motive, FIRST_MOTIVE + case.driven[friend], FIRST_OBJECT + case.carried[friend])
        knows = jnp.where(knows_motive, KIND["drive_of"], KIND["object_of"])
        script = [
            _rows(n, KIND["seat"], seats),
            _rows(n, KIND["was"], seats, value=case.at),
            sightings,
            _rows(n, KIND["carried"], seats, value=FIRST_OBJECT + case.carried),
            _rows(n, KIND["driven"], seats, value=FIRST_MOTIVE + case.driven),
            _rows(n, knows, seats, friend, fact),
            _rows(n, KIND["empty"], seats, value=case.empty),
        ]
        rows = jnp.concatenate([part.reshape(n, -1, 4) for part in script], axis=1)
        seen = together | (myself & alone[:, None])
        present = jnp.concatenate([np.ones((n, 2), bool), seen, np.ones((n, 3), bool), is_culprit[:, None]], axis=1)
        audience = np.repeat(1 << seats, rows.shape[1])
        public = [_rows(1, KIND["scene"], value=scene), _rows(1, KIND["round"], value=0)]
        return EventLog.empty(self.spec.max_events).append(
            jnp.concatenate([rows.reshape(-1, 4), *public]),
            jnp.asarray(np.append(audience, [everybody] * 2).astype(np.uint16)),
            jnp.append(present.reshape(-1), np.ones(2, bool)),
        )

    def _log_act(self, state: MysteryState, acted: MysteryState, action: jax.Array, turn: _Turn) -> EventLog:
        """Logs the act itself and the clue it draws or shows; votes stay hidden until all are in."""
        phase, actor = state.phase, state.actor
        kind, target, value = (jnp.asarray(table)[action] for table in _act_tables(self.num_seats))
        subject = jnp.where(state.question >= ABOUT, state.question - ABOUT, actor)
        target = jnp.where(phase == QUESTION, state.asked, jnp.where(phase == ANSWER, subject, target))
        everybody, me = jnp.ones((self.num_seats,), bool), jnp.arange(self.num_seats) == actor
        finders = everybody if self.clues == "public" else me
        told = audience_of(jnp.where(turn.shown, ~me, finders))
        spoken = (phase == QUESTION) | (phase == ANSWER) | (phase == OPINION)
        entries = [
            (event(KIND["utterance"], actor, value=state.step), audience_of(~me), spoken & (self.speech_tokens > 0)),
            (event(kind, actor, target, value), audience_of(~me), kind >= 0),
            (acted.clue, told, turn.searched | turn.shown),
        ]
        rows, audience, present = zip(*entries, strict=True)
        return state.log.append(jnp.stack(rows), jnp.stack(audience), jnp.stack(present))

    def _clue_row(self, state: MysteryState, room: jax.Array) -> jax.Array:
        """int16[4]: what the acting seat finds in a room."""
        n = self.num_seats
        found = state.stacks[room, state.drawn[room]]
        cases = [
            (found == n, "weapon", FIRST_OBJECT + state.weapon),
            (found == n + 1, "motive", FIRST_MOTIVE + state.motive),
            (found >= 0, "trace", room),
        ]
        conditions, kinds, values = zip(*cases, strict=True)
        kind = jnp.select(conditions, [jnp.int16(KIND[kind]) for kind in kinds], jnp.int16(KIND["no_clue"]))
        value = jnp.select(conditions, [value.astype(jnp.int16) for value in values], room.astype(jnp.int16))
        return event(kind, state.actor, jnp.where(kind == KIND["trace"], found, core.NO_ONE), value)

    def _log_step(self, log: EventLog, state: MysteryState, turn: _Turn) -> EventLog:
        """Logs what the decision led to: the next round, or the ballots and the verdict."""
        n = self.num_seats
        seats, all_seats = np.arange(n), (1 << n) - 1
        guilty = turn.convicted >= 0
        parts = [
            (_rows(1, KIND["round"], value=state.round + 1), [all_seats], turn.new_round[None]),
            (_rows(n, KIND["vote"], seats, state.ballots), all_seats - (1 << seats), jnp.tile(turn.polled, n)),
            (_rows(1, KIND["convicted"], target=turn.convicted), [all_seats], (turn.polled & guilty)[None]),
            (_rows(1, KIND["acquitted"]), [all_seats], (turn.polled & ~guilty)[None]),
            (_rows(1, KIND["win"], value=turn.caught), [all_seats], turn.polled[None]),
        ]
        rows, audience, present = zip(*parts, strict=True)
        seen_by = jnp.asarray(np.concatenate(audience).astype(np.uint16))
        return log.append(jnp.concatenate(rows), seen_by, jnp.concatenate(present))


def layout(num_seats: int) -> dict[str, int]:
    """First action of each block of the action space."""
    n = num_seats
    sizes = {"ask": n, "search": len(ROOMS), "question": ABOUT + n, "answer": ANSWERS, "show": 1, "keep": 1,
             "suspect": n, "trust": n, "pass": 1, "vote": n}  # fmt: skip
    starts = np.cumsum([0, *sizes.values()])[:-1].tolist()
    return dict(zip(sizes, starts, strict=True))


def questions(num_seats: int) -> tuple[str, ...]:
    """What can be asked, in words."""
    about = [f" about Player {seat + 1}" for seat in range(num_seats)]
    return (" where they were", " what they carried", " what drives them", *about)


def answers() -> tuple[str, ...]:
    """What can be answered, in words."""
    rooms, objects = [f" the {room}" for room in ROOMS], [f" a {thing}" for thing in OBJECTS]
    return (*rooms, *objects, *(f" {motive}" for motive in MOTIVES), " nothing")


def action_labels(num_seats: int) -> tuple[str, ...]:
    """The A labels: whom to ask, where to search, questions, answers, what to do with a clue, opinions, votes."""
    players = [f" Player {seat + 1}" for seat in range(num_seats)]
    labels = [f" ask{player}" for player in players] + [f" search the {room}" for room in ROOMS]
    labels += [*questions(num_seats), *answers(), " show", " keep"]
    labels += [f" suspect{player}" for player in players] + [f" trust{player}" for player in players]
    return (*labels, " pass", *players)


def scripted_speech(num_seats: int) -> tuple[str, ...]:
    """What a scripted player says aloud with each action, in agreement with it; empty where nothing is said."""
    first, labels = layout(num_seats), action_labels(num_seats)
    speech = [""] * len(labels)
    for index in range(first["question"], first["show"]):
        speech[index] = (" I ask" if index < first["answer"] else " I say") + labels[index]
    for index in range(first["suspect"], first["vote"]):
        speech[index] = " I" + labels[index]
    return tuple(speech)


def words(num_seats: int) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Word tables of the templates."""
    names = [f"Player {seat + 1}" for seat in range(num_seats)]
    return (
        ("seat", tuple(f" {name}" for name in names)),
        ("line", tuple(f"\n{name}" for name in names)),
        ("speaker", tuple(f"\n{name}:" for name in names)),
        ("voter", tuple(f"\n{name} votes" for name in names)),
        ("question", questions(num_seats)),
        ("answer", answers()),
        ("number", tuple(f" {number}" for number in range(1, MOST_ROUNDS + 1))),
        ("winner", ("\nThe culprit wins", "\nThe innocents win")),
    )


def _rows(
    count: int, kind: Any, actor: Any = core.NO_ONE, target: Any = core.NO_ONE, value: Any = core.NO_ONE
) -> jax.Array:
    """int16[count, 4]: rows of the log from columns, each one number or `count` of them."""
    columns = [jnp.broadcast_to(jnp.asarray(x, jnp.int16), (count,)) for x in (kind, actor, target, value)]
    return jnp.stack(columns, axis=1)


def _act_tables(num_seats: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """int16[A] each: kind, target and value of the row that each action becomes, kind -1 for those that become none."""
    none, seats = core.NO_ONE, range(num_seats)
    blocks = [(none, none, none)] * num_seats
    blocks += [(KIND["search"], none, room) for room in range(len(ROOMS))]
    blocks += [(KIND["ask"], none, question) for question in range(ABOUT + num_seats)]
    blocks += [(KIND["answer"], none, answer) for answer in range(ANSWERS)]
    blocks += [(none, none, none)] * 2
    blocks += [(KIND[name], seat, none) for name in ("suspect", "trust") for seat in seats]
    blocks += [(KIND["pass"], none, none)] + [(none, none, none)] * num_seats
    kinds, targets, values = np.array(blocks, np.int16).T
    return kinds, targets, values
