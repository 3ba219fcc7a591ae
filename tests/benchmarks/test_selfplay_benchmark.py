"""The benchmark counts what it claims to count, and its two sides play the same games."""

import dataclasses
import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.sharding import Mesh

from games.registry import make
from games.text.grammar import TRIE
from maro_jax.league.floor import MachineRates, Work, kernel_weights, learning_flops, needed_work
from maro_jax.learner.decisions import Decisions
from maro_jax.learner.packing import PackingShape, empty_streams
from maro_jax.policy.hf_writer import save_model
from maro_jax.policy.models import load_policy
from maro_jax.policy.tokenizer import tiny_tokenizer
from maro_jax.selfplay.episodes import RANDOM, Episodes, RolloutPlan
from maro_jax.selfplay.rollout import ROLLOUT_AXES, build_rollout
from maro_jax.selfplay.table import RolloutSizes, Table
from tests.benchmarks import selfplay
from tests.benchmarks.compiled_way import host_primitives
from tests.benchmarks.usual_way import LegalLabels, TextGame, UsualWay, Words
from tests.games.werewolf_referee import ROLES, Referee

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def table() -> Table:
    policy, _, tokenizer = load_policy("tiny")
    return Table.lay(make("werewolf-v0", num_seats=6, max_days=5), policy, tokenizer)


@pytest.fixture(scope="module")
def usual(table: Table, tmp_path_factory: pytest.TempPathFactory) -> UsualWay:
    torch.set_num_threads(1)  # waiting for a core that others use takes longer than the work
    folder = tmp_path_factory.mktemp("usual") / "model"
    policy, _, tokenizer = load_policy("tiny")
    save_model(folder, policy, policy.init(jax.random.key(0)), tokenizer)
    return UsualWay(folder, table.spec, tokenizer.family)


# What the compiled side reports.


def test_host_primitives_are_found_at_any_depth():
    def noisy(x):
        def body(x):
            return jax.lax.cond(x.sum() > 9, lambda x: x, lambda x: (jax.debug.callback(print, x), x + 1)[1], x)

        return jax.lax.while_loop(lambda x: x.sum() < 9, body, x)

    assert host_primitives(jax.jit(noisy).trace(jnp.zeros(3)).jaxpr) == ["debug_callback"]
    assert host_primitives(jax.jit(jnp.sort).trace(jnp.zeros(3)).jaxpr) == []


def test_needed_work_is_that_of_a_token_by_token_count(table: Table):
    spec, config = table.spec, table.policy.config
    sampled = {(0, 1): [5, 9], (0, 4): [7], (1, 0): [3, 4, 30]}  # (episode, seat): places, all at the trie's root
    legal = {0: [0, 2, 3], 1: [4, 5]}  # decision: labels, each alone under its child
    episodes = Episodes.empty(spec, 2, 40)
    node, decision = np.zeros((2, 2, 6, 40), np.int16)
    for (episode, seat), places in sampled.items():
        node[episode, seat, places] = TRIE
        decision[episode, seat, places] = episode
    mask = np.zeros((2, spec.max_decisions, spec.num_actions), bool)
    for index, labels in legal.items():
        mask[index, index, labels] = True
    roles = np.array([[0, 1, 2, 3, 3, 3], [3, 3, 2, 3, 1, 0]], np.int8)
    episodes = dataclasses.replace(
        episodes,
        node=jnp.asarray(node),
        decision=jnp.asarray(decision),
        roles=jnp.asarray(roles),
        behaviours=dataclasses.replace(episodes.behaviours, legal=jnp.asarray(mask)),
    )

    kv_bytes = 2 * config.num_layers * config.num_kv_heads * config.head_dim * 4
    per_key = 4 * config.num_heads * config.head_dim
    lower = (config.num_layers - 1) * per_key
    last = sum(
        math.prod(leaf["kernel"].shape)
        for name, leaf in table.policy.abstract_params()["layers"][str(config.num_layers - 1)].items()
        if name in ("query", "output", "gate", "up", "down")
    )
    weights, prefixes = kernel_weights(table) - last, table.lexicon.prefix_lengths
    tokens, flops, traffic = 0, 0, 0
    for length in prefixes:
        for place in range(length):
            flops += 2 * weights + lower * (place + 1)
            traffic += kv_bytes
    for (episode, seat), places in sampled.items():
        prefix, before = int(prefixes[roles[episode, seat]]), 0
        for place in places:
            traffic += kv_bytes * (prefix + before)
            for fed in range(before, place):
                tokens += 1
                flops += 2 * weights + lower * (prefix + fed + 1)
                traffic += kv_bytes
            flops += 2 * last + per_key * (prefix + place)
            flops += 2 * config.hidden_size * len(legal[episode])
            before = place
    traffic += 4 * kernel_weights(table) * 2  # six sampled tokens, at most four at once

    assert needed_work(table, 4, episodes) == Work(tokens=tokens, sampled=6, flops=flops, bytes=traffic)


def test_learning_needs_three_times_the_forward_operations_of_its_streams(table: Table):
    config = table.policy.config
    decisions = Decisions.of([table])
    streams = empty_streams(decisions, PackingShape(rows=1, width=16, queries=4, behaviours=2))
    lengths = [5, 7]
    for segment, (begin, length) in enumerate(zip((0, 5), lengths, strict=True)):
        streams.segment[0, begin : begin + length] = segment
        streams.position[0, begin : begin + length] = np.arange(length)
    streams.query[0, :3], streams.node[0, :3] = [3, 6, 11], TRIE
    of_layer = {
        name: math.prod(leaf["kernel"].shape)
        for name, leaf in table.policy.abstract_params()["layers"]["0"].items()
        if "kernel" in leaf
    }
    per_key = 4 * config.num_heads * config.head_dim
    flops = 0
    for length in lengths:
        for place in range(length):
            flops += (config.num_layers - 1) * (2 * sum(of_layer.values()) + per_key * (place + 1))
            flops += 2 * (of_layer["key"] + of_layer["value"])
    for seen in (4, 2, 7):  # places 3, 6 - 5 and 11 - 5 of their streams
        flops += 2 * sum(size for name, size in of_layer.items() if name not in ("key", "value")) + per_key * seen
    assert learning_flops(table, streams) == 3 * flops


def test_the_floor_is_the_slower_of_the_two():
    rates = MachineRates(gflops=100.0, gigabytes=10.0)
    assert rates.seconds(Work(tokens=1, sampled=1, flops=2e11, bytes=1e9)) == pytest.approx(2.0)
    assert rates.seconds(Work(tokens=1, sampled=1, flops=1e9, bytes=3e10)) == pytest.approx(3.0)


# What the usual way plays.


class _Replayed(Referee):
    """A referee whose chance is read from a record: who speaks first is who spoke first."""

    speakers: list[int]

    def _drawn(self, name: str, candidates: list[int], chance: Mapping[str, int]) -> int:
        assert name == "first_speaker"  # the decision after the one that opens the day, which is already counted
        return super()._drawn(name, candidates, {name: self.speakers[self.step_index]})


def test_both_sides_read_the_same_text(table: Table):
    games = 16
    number = jnp.arange(games, dtype=jnp.int32)
    plan = RolloutPlan(episode=number, deal=number, holders=jnp.full((games, 2), RANDOM, jnp.int8))
    sizes = RolloutSizes.fit(table, games, table.stream_capacity(0, "refuse"))
    mesh = Mesh(np.array(jax.devices()[:1]).reshape(1, 1, 1), ROLLOUT_AXES)
    rollout = build_rollout(table, sizes, mesh, models=0, scripted=True)
    episodes = jax.tree.map(np.asarray, rollout(None, jnp.ones(0), jax.random.key(0), plan)[0])
    tokenizer = tiny_tokenizer()
    words = Words.of(table.spec, tokenizer.family)
    for index in range(games):
        acted = episodes.behaviours.seat[index] >= 0
        referee = _Replayed(dict(table.spec.parameters), [ROLES[role] for role in episodes.roles[index]])
        referee.speakers = episodes.behaviours.seat[index].tolist()
        game = TextGame(words, referee)
        for action in episodes.behaviours.action[index][acted]:
            game.prompt()
            game.reply(words.labels[action])
        assert referee.over
        for seat, history in enumerate(game.histories):
            ids = episodes.tokens[index, seat, : episodes.lengths[index, seat]]
            assert tokenizer.decode(ids.tolist(), show_control=True) == history


def test_labels_are_constrained_to_the_legal_ones(usual: UsualWay):
    labels = [usual.tokenizer(label + usual.words.close)["input_ids"] for label in usual.words.labels]
    close = labels[0][-1]
    following = usual._following(frozenset({6, 7, 34}))  # accuse Player 1, accuse Player 2, pass
    prompt = [0, 0]
    replies = [[], labels[6][:1], labels[34], labels[34][:1]]
    for reply, expected in zip(
        replies, [{labels[6][0], labels[34][0]}, {labels[6][1], labels[7][1]}, {close}, {close}], strict=True
    ):
        scores = LegalLabels([following], len(prompt), [close])(
            torch.tensor([prompt + reply]), torch.zeros(1, len(usual.tokenizer))
        )
        assert set(torch.isfinite(scores)[0].nonzero()[:, 0].tolist()) == expected


def test_usual_games_end_and_are_counted(usual: UsualWay):
    single, batched = usual.play(2, 1, seed=1), usual.play(3, 2, seed=1)
    assert single.calls == single.decisions
    assert single.padding_tokens == 0
    assert batched.calls < batched.decisions <= 2 * batched.calls
    for played in (single, batched):
        assert played.prompt_tokens > played.stream_tokens > played.sampled > played.decisions


def test_illegal_and_unknown_replies_are_refused(usual: UsualWay):
    referee = Referee({"num_seats": 6, "max_days": 5}, ["wolf", "seer", "doctor", *["villager"] * 3])
    game = TextGame(usual.words, referee)
    assert game.prompt().endswith("\nChoose a player to kill<|act|>")
    with pytest.raises(ValueError, match="not legal for Player 1 in wolf"):
        game.reply(" Player 1")
    with pytest.raises(ValueError):
        game.reply(" Player 9")


# The command.


@pytest.mark.parametrize(
    "flags", [["--lanes=0"], ["--lanes=12"], ["--episodes=x"], ["--json=/no/such/folder/file"], ["--lane=8"], ["8"]]
)
def test_wrong_flags_are_answered_in_a_sentence(flags: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as refusal:
        selfplay.main(flags)
    assert refusal.value.code == 2
    assert flags[0].split("=")[0].lstrip("-") in capsys.readouterr().err


@pytest.mark.slow
def test_quick_run_writes_every_figure(tmp_path: Path):
    file = tmp_path / "selfplay.json"
    environment = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "JAX_PLATFORMS")}
    command = [sys.executable, "-m", "tests.benchmarks.selfplay", "--quick", f"--json={file}"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(file.read_text())
    assert set(report) == {
        "game", "parameters", "model_parameters", "devices", "rounds", "load_average", "peak_rss_mib", "machine",
        "compiled", "usual", "ratios",
    }  # fmt: skip
    (compiled,), (ratios,), usual = report["compiled"], report["ratios"], report["usual"]
    assert compiled["host_primitives"] == []
    assert compiled["model_tokens"] == compiled["needed_tokens"]
    for name in ("ingest_useful", "decode_useful", "lane_occupancy"):
        assert 0 < compiled[name] <= 1
    for name in ("compile_seconds", "program_mib", "floor_games_per_second", "needed_mflop", "needed_mb"):
        assert compiled[name] > 0
    for name in ("games", "decisions", "rendered_tokens", "generated_tokens"):
        assert compiled[f"{name}_per_second"]["median"] > 0
    assert compiled["fraction_of_floor"]["median"] > 0
    assert usual["one_at_a_time"]["width"] == 1
    assert usual["batched"][0]["width"] == compiled["lanes"] == ratios["lanes"]
    for name in ("one_at_a_time", "batched"):
        assert ratios[name]["low"] <= ratios[name]["median"] <= ratios[name]["high"]
    for line in ("games/s", "ingest slots useful ÷ issued", "fraction of the floor reached", "goal 20 ×"):
        assert line in done.stdout
