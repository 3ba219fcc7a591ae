"""The benchmark of the games counts what it claims to count."""

import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from games.kuhn import Kuhn
from games.text.framing import FRAMINGS, encode_span
from games.text.lexicon import build_lexicon
from games.text.transcript import event_text
from maro_jax.policy.tokenizer import tiny_tokenizer
from tests.benchmarks import games_speed, other_games


def test_decisions_and_rendered_tokens_are_those_of_a_plain_loop():
    game, tokenizer = Kuhn(), tiny_tokenizer()
    spec, framing = game.spec, FRAMINGS[tokenizer.family]
    lexicon = build_lexicon(spec, tokenizer, vocab_size=tokenizer.vocab_size, brief=True)
    keys = jax.random.split(jax.random.key(5), 6)
    played = np.asarray(jax.jit(games_speed.random_play(game, lexicon))(keys))
    around = sum(len(encode_span(part, tokenizer))
                 for part in (framing.turn_open, framing.turn_close, framing.action_open))  # fmt: skip
    step = jax.jit(game.step)
    for key, (decisions, tokens, checksum) in zip(keys, played.tolist(), strict=True):
        state, cursor = game.init(jax.random.fold_in(key, 0)), [0, 0]
        made, ids = 0, 0
        while not bool(state.over):
            seat, size = int(state.actor), int(state.log.size)
            rows = range(cursor[seat], size)
            shown = ["\n" + event_text(spec, np.asarray(state.log.rows[row]), "") for row in rows
                     if int(state.log.audience[row]) >> seat & 1]  # fmt: skip
            cursor[seat] = size
            text = [*shown, spec.phases[int(state.phase)].prompt]
            ids += around + sum(len(tokenizer.encode(part)) for part in text)
            choice, chance = jax.random.split(jax.random.fold_in(key, made + 1))
            legal = np.flatnonzero(game.legal_action_mask(state))
            action = legal[int(jax.random.uniform(choice) * len(legal))]
            state, made = step(state, jnp.int32(action), chance), made + 1
        assert (decisions, tokens) == (made, ids)
        assert checksum > tokens  # ids were summed, not only counted


def test_a_measurement_has_rates_of_one_size():
    speed = games_speed.measure(Kuhn(), None, batch=8, seconds=0.01)
    assert speed.batch == 8 and speed.compile_seconds > 0 and speed.tokens == 0
    assert 2 <= speed.decisions / speed.games <= 3
    assert games_speed.state_bytes(Kuhn()) > 50


def test_open_spiel_plays_the_same_games():
    pytest.importorskip("pyspiel")
    figures = other_games.open_spiel("kuhn-v0", 0.01)
    assert figures is not None and 2 <= figures["decisions"] / figures["games"] <= 3
    assert other_games.open_spiel("werewolf-v0", 0.01) is None


@pytest.mark.parametrize(("bid", "expected"), [((0, 0), 12), ((1, 6), 2), ((2, 6), 1), ((2, 5), 2)])
def test_bids_in_text_arena_rise_or_are_called(bid: tuple[int, int], expected: int):
    state = {"current_bid": dict(zip(("quantity", "face_value"), bid, strict=True)), "remaining_dice": {0: 1, 1: 1}}
    answers = {other_games.ANSWERS["LiarsDice-v0"](state, "", random.Random(seed)) for seed in range(200)}
    assert len(answers) == expected
    assert ("[Call]" in answers) == (bid != (0, 0))


def test_text_arena_is_played_where_it_is_installed():
    pytest.importorskip("textarena")
    figures = other_games.text_arena("kuhn-v0", 0.01, tiny_tokenizer().encode)
    assert figures is not None and figures["tokens"] > figures["decisions"] > 0
