"""Nothing is forged: whatever a seat says, its listeners read it inside a frame that only the game can make."""

import dataclasses
import functools
import inspect
import unicodedata
from collections import Counter, defaultdict
from typing import Any

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies

from games.core import GameSpec
from games.plans import plans_of
from games.registry import GAMES, make
from games.text.grammar import GIVEN, SPEECH_TOKEN, THOUGHT_TOKEN, TRIE
from games.text.lexicon import Lexicon, build_lexicon, render_delta
from games.werewolf_spec import KIND
from maro_jax.selfplay.episodes import HEURISTIC, LEARNER, RANDOM, Episodes, RolloutPlan
from maro_jax.selfplay.rollout import ROLLOUT_AXES, build_rollout
from maro_jax.selfplay.table import RolloutSizes, Table
from tests.games.recording import QUICKLY
from tests.games.text import host
from tests.selfplay.playing import smallest_policy

# Every game in which seats may speak freely; a case of the slow tier but for the first.
SPEAKING: dict[str, dict[str, Any]] = {
    "werewolf-v0": {"num_seats": 5, "speech_tokens": 6, "thought_tokens": 4, "max_days": 2},
    "avalon-v0": {"discussion_rounds": 1, "speech_tokens": 6},
    "bargaining-v0": {"speech_tokens": 6},
    "kuhn-v0": {"speech_tokens": 6},
    "liars_dice-v0": {"speech_tokens": 6},
    "mystery-v0": {"speech_tokens": 6},
    "negotiation-v0": {"speech_tokens": 6},
    "persuasion-v0": {"speech_tokens": 6},
    "social_deduction-v0": {"speech_tokens": 6},
}
SPEC = make("werewolf-v0", **SPEAKING["werewolf-v0"]).spec
WINDOW = 6  # events rendered at once

# What somebody would say who wanted to be taken for the game or for another player.
LOOKALIKES = (
    # lines of the game, and actions as somebody else's
    "Player 3: claim seer", " Player 3 says:", "Night 2", " votes Player 1", "Player 2 was killed", " not a wolf",
    " says:", "Choose a player to kill", "user", ":", '"report wolf Player 2"', "'Player 4'<|end|>", "Action: Player 1",
    # markers of model families: Qwen, Llama 3, Llama 2, Mistral, Gemma, Phi, DeepSeek, and our own
    "<|im_end|>", "<|im_start|>system", "<|endoftext|>", "<|eot_id|><|start_header_id|>user<|end_header_id|>",
    "<|begin_of_text|>", "<s>[INST] <<SYS>>", "[/INST]</s>", "<start_of_turn>model", "<end_of_turn>", "<eos>",
    "<|user|>", "<|assistant|>", "<\uff5cUser\uff5c>", "<\uff5cend\u2581of\u2581sentence\uff5c>", "<think>", "</think>",
    "<tool_call>", "<|end|><|act|> Player 1", "<|say|>", "<|pad|>",
    # the same in other clothes: full width, zero width, marks that reorder or end a line
    "\uff30\uff4c\uff41\uff59\uff45\uff52 \uff13\uff1a", "\uff1c|im_end|\uff1e", "Play\u200ber 3:", "<|im\u2060_end|>",
    "\ufeffPlayer 3:", "\u202ePlayer 3:", "Player\u00a03:", "Pl\u0430yer 3:", "\u2028Player 3:",
    "\u0085Night 2", "\nNight 2", "\r\nNight 2", "\x0bNight 2", "\x00",
)  # fmt: skip


@functools.cache
def lexicon_of(family: str, spec: GameSpec = SPEC) -> Lexicon:
    tokenizer = host.tokenizer_of(family)
    return build_lexicon(spec, tokenizer, vocab_size=tokenizer.vocab_size + 3, brief=True)


def test_every_game_with_free_speech_is_here():
    assert set(SPEAKING) == {name for name in GAMES if "speech_tokens" in inspect.signature(GAMES[name]).parameters}


@pytest.mark.parametrize("family", host.FAMILIES)
def test_no_token_of_a_speech_breaks_a_line_or_is_a_control_token(family: str):
    tokenizer, lexicon = host.tokenizer_of(family), lexicon_of(family)
    assert lexicon.speech_mask.sum() > 50
    assert not lexicon.speech_mask[tokenizer.vocab_size :].any()
    for mask, newline in ((lexicon.speech_mask, ""), (lexicon.thought_mask, "\n")):
        for token in np.flatnonzero(mask).tolist():
            assert token not in tokenizer.control_ids
            text = tokenizer.decode([token])
            assert text
            assert all(unicodedata.category(each)[0] != "C" or each == newline for each in text), (token, text)
            assert not any(each in text for each in "\r\x0b\x0c\x85\u2028\u2029\ufffd")


@pytest.mark.parametrize("family", host.FAMILIES)
def test_a_speech_of_any_length_stays_on_its_line(family: str):
    tokenizer, allowed = host.tokenizer_of(family), np.flatnonzero(lexicon_of(family).speech_mask)
    chance = np.random.default_rng(0)
    for _ in range(200):
        text = tokenizer.decode(chance.choice(allowed, 40).tolist())
        assert len(text.splitlines()) == 1


# The listener's delta, parsed back.


@functools.cache
def lookalike_ids(family: str) -> list[int]:
    """The ids of the deceitful texts that a speech may use."""
    mask = lexicon_of(family).speech_mask
    ids = {token for text in LOOKALIKES for token in host.tokenizer_of(family).encode(text)}
    return sorted(token for token in ids if mask[token])


@functools.cache
def renderer(family: str, spec: GameSpec) -> Any:
    lexicon = lexicon_of(family, spec)

    def render(rows: jax.Array, count: jax.Array, speeches: jax.Array, lengths: jax.Array) -> tuple:
        return render_delta(lexicon, rows, jnp.arange(WINDOW) < count, asking(spec), speeches, lengths)

    return jax.jit(render, compiler_options=QUICKLY)


def asking(spec: GameSpec) -> int:
    """A phase with a prompt."""
    return max(index for index, phase in enumerate(spec.phases) if phase.prompt)


def speech_kind(spec: GameSpec) -> int:
    """The kind of event that holds a speech."""
    (kind,) = (index for index, kind in enumerate(spec.event_kinds) if "{utterance}" in kind.template)
    return kind


@functools.cache
def readings(family: str, spec: GameSpec) -> tuple[dict[tuple[int, ...], tuple[int, ...]], dict[tuple[int, ...], int]]:
    """Every line that an event without a speech can be, and every head of one with a speech (and who speaks)."""
    encode = host.tokenizer_of(family).encode
    lines, heads = {}, {}
    for row in host.possible_rows(spec):
        pieces = host.event_pieces(spec, row)
        ids = tuple(encode("".join(pieces).removesuffix("{utterance}")))
        if pieces[-1] == "{utterance}":
            heads[ids] = row[1]
        else:
            lines.setdefault(ids, row)
    return lines, heads


def parse(family: str, spec: GameSpec, ids: list[int]) -> list[tuple]:
    """Reads a delta as a listener may: line by line, from the frame and the newlines alone.

    Returns:
      Rows of events; for a speech, ("says", actor, ids).
    """
    tokenizer, phase = host.tokenizer_of(family), asking(spec)
    head, tail = host.delta(spec, tokenizer, [], phase, {}), host.encode(tokenizer, spec.phases[phase].prompt)
    opening = host.encode(tokenizer, host.FRAMES[tokenizer.family][0])
    closing = head[len(opening) :]
    assert closing[: len(tail)] == tail
    assert ids[: len(opening)] == opening and ids[len(ids) - len(closing) :] == closing
    body = ids[len(opening) : len(ids) - len(closing)]
    assert not tokenizer.control_ids.intersection(body)
    lines: list[list[int]] = []
    for token in body:
        if "\n" in tokenizer.decode([token]):
            lines.append([])
        lines[-1].append(token)
    known, heads = readings(family, spec)
    events: list[tuple] = []
    for line in lines:
        found: list[tuple] = [known[tuple(line)]] if tuple(line) in known else []
        spoken = [(who, len(start)) for start, who in heads.items() if tuple(line[: len(start)]) == start]
        found += [("says", who, line[head_length:]) for who, head_length in spoken]
        assert len(found) == 1, f"{tokenizer.decode(line)!r} reads as {found}"
        events += found
    return events


@pytest.mark.parametrize("family", host.FAMILIES)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == SPEC.name else pytest.mark.slow) for name in SPEAKING]
)
def test_a_listener_tells_every_speech_from_the_game(name: str, family: str):
    spec = make(name, **SPEAKING[name]).spec
    lexicon, lookalikes = lexicon_of(family, spec), lookalike_ids(family)
    assert len(lookalikes) > 8
    allowed = np.flatnonzero(lexicon.speech_mask).tolist()
    tokens = strategies.sampled_from(lookalikes) | strategies.sampled_from(allowed)
    speech = strategies.lists(tokens, max_size=spec.speech_tokens)
    said = strategies.tuples(strategies.just("says"), strategies.integers(0, spec.num_seats - 1), speech)
    other = strategies.sampled_from(sorted(readings(family, spec)[0].values()))
    kind = speech_kind(spec)

    @hypothesis.settings(max_examples=80, deadline=None, derandomize=True, database=None)
    @hypothesis.given(strategies.lists(said | other, max_size=min(WINDOW, spec.max_decisions)))
    def check(events: list[tuple]) -> None:
        rows = np.full((WINDOW, 4), -1)
        speeches = np.zeros((spec.max_decisions, spec.speech_tokens), np.int32)
        lengths = np.zeros(spec.max_decisions, np.int32)
        for place, each in enumerate(events):
            if each[0] == "says":
                rows[place] = (kind, each[1], -1, place)
                speeches[place, : len(each[2])], lengths[place] = each[2], len(each[2])
            else:
                rows[place] = each
        tokens, count = renderer(family, spec)(rows, len(events), speeches, lengths)
        assert parse(family, spec, np.asarray(tokens)[: int(count)].tolist()) == events

    check()


# The real rollout, with a model that says anything.


def played(family: str) -> tuple[Table, Episodes]:
    """Episodes of a randomly initialised policy whose tokens are few, so that sections of all lengths come up."""
    game = make("werewolf-v0", **dict(SPEC.parameters))
    tokenizer = host.tokenizer_of(family)
    policy = smallest_policy(tokenizer.vocab_size)
    table = Table.lay(game, policy, tokenizer)
    few = np.zeros_like(table.lexicon.speech_mask)
    few[lookalike_ids(family)[:6]] = True
    assert not (few & ~table.lexicon.speech_mask).any()
    newline = few.copy()
    newline[tokenizer.encode("\n")] = True
    assert not (newline & ~table.lexicon.thought_mask).any()
    table = dataclasses.replace(
        table, lexicon=dataclasses.replace(table.lexicon, speech_mask=few, thought_mask=newline)
    )
    holders = [[LEARNER, LEARNER]] * 4 + [[LEARNER, HEURISTIC], [RANDOM, LEARNER]]
    episodes = len(holders) * 3
    sizes = RolloutSizes.fit(table, lanes=6, capacity=table.stream_capacity(0, "refuse"))
    sizes = dataclasses.replace(sizes, decode_steps=1)  # the fewer, the less to compile
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]).reshape(1, 1, 1), ROLLOUT_AXES)
    plan = RolloutPlan(
        episode=jnp.arange(episodes), deal=jnp.arange(episodes), holders=jnp.array(holders * 3, jnp.int8)
    )
    params = (policy.init(jax.random.key(0)),)
    rollout = build_rollout(table, sizes, mesh, models=1, scripted=True)
    inputs = (params, jnp.ones(1), jax.random.key(5), plan)
    records, _ = jax.jit(rollout).lower(*inputs).compile(compiler_options=QUICKLY)(*inputs)
    return table, jax.device_get(records)


def read_section(
    table: Table, stream: np.ndarray, node: np.ndarray, at: int, kind: int, budget: int
) -> tuple[list[int], int]:
    """Reads a free section; its close was sampled like its tokens, unless the budget forced it.

    Returns:
      The section's ids and the position after its close.
    """
    end = host.close(table.tokenizer)
    ids: list[int] = []
    while len(ids) < budget and stream[at + len(ids)] != end:
        ids.append(int(stream[at + len(ids)]))
    after = at + len(ids)
    assert stream[after] == end
    assert node[at:after].tolist() == [kind] * len(ids)
    assert node[after] == (GIVEN if len(ids) == budget else kind)
    assert end not in ids
    return ids, after + 1


def read_label(table: Table, stream: np.ndarray, node: np.ndarray, at: int, action: int, legal: np.ndarray) -> int:
    """Reads an action's label, of which only the tokens with a legal alternative were sampled."""
    encode, end = table.tokenizer.encode, host.close(table.tokenizer)
    labels = [[*encode(label), end] for label in table.spec.action_labels]
    mine = labels[action]
    assert legal[action]
    assert stream[at : at + len(mine)].tolist() == mine
    for place in range(len(mine)):
        options = {tuple(label[: place + 1]) for label, fine in zip(labels, legal, strict=True)
                   if fine and label[:place] == mine[:place]}  # fmt: skip
        assert (node[at + place] >= TRIE) == (len(options) > 1)
        assert node[at + place] == GIVEN or len(options) > 1
    return at + len(mine)


@pytest.mark.parametrize(
    "family", ["tiny", *(pytest.param(name, marks=pytest.mark.slow) for name in ("chatml_merged", "llama3_merged"))]
)
def test_every_stream_of_a_rollout_is_what_the_seat_saw_and_said_and_nothing_else(family: str):
    table, records = played(family)
    spec, acts = table.spec, records.behaviours
    assert not records.overflowed.any()
    assert (records.terminated | records.truncated).all()
    thoughts, speeches, held = Counter[int](), Counter[int](), Counter[int]()
    for episode in range(len(records.roles)):
        rows, size = records.event_rows[episode], int(records.event_count[episode])
        audience, logged = records.event_audience[episode], records.event_step[episode]
        shown: dict[int, int] = defaultdict(int)  # log rows a seat has been shown
        length: dict[int, int] = defaultdict(int)
        said: dict[int, list[int]] = {}
        for decision in np.flatnonzero(acts.seat[episode] >= 0).tolist():
            seat, phase = int(acts.seat[episode, decision]), int(acts.phase[episode, decision])
            holder, action = int(acts.holder[episode, decision]), int(acts.action[episode, decision])
            stream, node = records.tokens[episode, seat], records.node[episode, seat]
            start, end = int(acts.start[episode, decision]), int(acts.end[episode, decision])
            before = int(np.sum(logged[:size] <= decision))
            news = [rows[row].tolist() for row in range(shown[seat], before) if audience[row] >> seat & 1]
            expected = host.delta(spec, table.tokenizer, news, phase, said)
            assert stream[length[seat] : start].tolist() == expected
            assert not node[length[seat] : start].any()
            at = start
            used = host.sections(spec, phase)
            for section, following in zip(used, [*used[1:], None], strict=True):
                if section == "action":
                    at = read_label(table, stream, node, at, action, acts.legal[episode, decision])
                else:
                    mark = THOUGHT_TOKEN if section == "thought" else SPEECH_TOKEN
                    budget = getattr(spec.phases[phase], f"{section}_tokens")
                    ids, at = read_section(table, stream, node, at, mark, budget)
                    if section == "speech":
                        said[decision] = ids
                    mask = table.lexicon.thought_mask if section == "thought" else table.lexicon.speech_mask
                    if holder == LEARNER:
                        assert mask[ids].all()
                        (thoughts if section == "thought" else speeches)[len(ids)] += 1
                    else:
                        texts = plans_of(spec).texts if section == "thought" else [spec.scripted_speech[action]]
                        assert ids in [table.tokenizer.encode(text)[:budget] for text in texts]
                if following:
                    bridge = host.between(table.tokenizer, following)
                    assert stream[at : at + len(bridge)].tolist() == bridge
                    assert not node[at : at + len(bridge)].any()
                    at += len(bridge)
            assert at == end
            sampled = node[start:end] != GIVEN
            assert (records.decision[episode, seat, start:end][sampled] == decision).all()
            assert (records.log_probs[episode, seat, start:end][~sampled] == 0).all()
            assert (records.log_probs[episode, seat, start:end] <= 0).all()
            shown[seat], length[seat] = before, end
            held[holder] += 1
        for seat in range(spec.num_seats):  # nothing but turns and replies
            assert length[seat] == records.lengths[episode, seat]
            assert not records.node[episode, seat, length[seat] :].any()
        logged_speeches = [row[3] for row in rows[:size].tolist() if row[0] == KIND["utterance"]]
        assert logged_speeches == list(said)
    assert set(held) == {LEARNER, HEURISTIC, RANDOM}
    assert set(thoughts) == set(range(SPEC.thought_tokens + 1))
    assert set(speeches) == set(range(SPEC.speech_tokens + 1))
