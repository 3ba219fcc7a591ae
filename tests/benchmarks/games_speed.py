"""How fast the games themselves are, without a model: batches of random play, with and without their text.

    python -m tests.benchmarks.games_speed [--games=werewolf-v0,kuhn-v0] [--batches=1,64,1024,16384] [--json=FILE]

A batch of episodes is played to its end in one compiled program over all cores. With text, everything new to the acting
seat and its prompt are rendered to token ids before every decision, as the self-play loop does. Beside it, on one core
each: OpenSpiel's C++ games driven from Python, and TextArena's, made afresh for each game (its wrapper keeps history
across `reset`) with each observation tokenised on the host by the same tokenizer. Everybody plays uniformly at random
among the legal actions. Needs the extras `test` (open_spiel) and `bench` (textarena); what is missing is left out.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# Before anything imports jax, which reads these once: every core is a device.
os.environ["JAX_PLATFORMS"] = "cpu"
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    count = f"--xla_force_host_platform_device_count={os.cpu_count()}"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {count}".strip()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from jax.sharding import Mesh, NamedSharding, PartitionSpec  # noqa: E402

from games.core import Game  # noqa: E402
from games.registry import GAMES, make  # noqa: E402
from games.text.lexicon import Lexicon, build_lexicon, render_delta  # noqa: E402
from maro_jax.policy.tokenizer import tiny_tokenizer  # noqa: E402
from maro_jax.run.console import table as text_table  # noqa: E402
from tests.benchmarks import other_games  # noqa: E402

GOAL_WITH_TEXT = 100.0  # decisions/s of TextArena


@dataclasses.dataclass(frozen=True)
class Speed:
    """What a batch size reaches.

    Attributes:
      batch: episodes side by side.
      games, decisions, tokens: a second; tokens are those rendered.
      compile_seconds: time to build the program.
    """

    batch: int
    games: float
    decisions: float
    tokens: float
    compile_seconds: float


def random_play(game: Game, lexicon: Lexicon | None) -> Callable[[jax.Array], jax.Array]:
    """A function from keys[B] to the decisions and rendered tokens of B episodes, and a sum over all that was rendered.

    The sum keeps the compiler from leaving the text out.
    """
    spec = game.spec

    def render(state: Any, cursor: jax.Array) -> tuple[jax.Array, jax.Array]:
        seen = cursor[jnp.maximum(state.actor, 0)].astype(jnp.int32)
        window = jnp.minimum(seen + jnp.arange(spec.max_new_events), spec.max_events - 1)
        new = seen + jnp.arange(spec.max_new_events) < state.log.size
        visible = state.log.visible_to(state.actor)[window] & new
        said, said_length = jnp.zeros((spec.max_decisions, 0), jnp.int32), jnp.zeros((spec.max_decisions,), jnp.int32)
        tokens, count = render_delta(lexicon, state.log.rows[window], visible, state.phase, said, said_length)
        return jnp.stack([count, jnp.sum(tokens)]), jnp.where(jnp.arange(spec.num_seats) == state.actor,
                                                              state.log.size, cursor)  # fmt: skip

    def turn(key: jax.Array, state: Any, cursor: jax.Array, at: jax.Array) -> tuple:
        choice, chance = jax.random.split(jax.random.fold_in(key, at))
        rendered = jnp.zeros((2,), jnp.int32)
        if lexicon is not None:
            rendered, cursor = render(state, cursor)
            rendered = jnp.where(state.over, 0, rendered)
        legal = game.legal_action_mask(state)
        pick = (jax.random.uniform(choice) * jnp.sum(legal)).astype(jnp.int32)
        action = jnp.argmax(jnp.cumsum(legal) > pick).astype(jnp.int32)
        return game.step(state, action, chance), cursor, rendered

    def play(keys: jax.Array) -> jax.Array:
        state = jax.vmap(game.init)(jax.vmap(lambda key: jax.random.fold_in(key, 0))(keys))
        cursor = jnp.zeros((keys.shape[0], spec.num_seats), jnp.int16)

        def body(carry: tuple) -> tuple:
            state, cursor, total, at = carry
            state, cursor, rendered = jax.vmap(turn, in_axes=(0, 0, 0, None))(keys, state, cursor, at)
            return state, cursor, total + rendered, at + 1

        start = (state, cursor, jnp.zeros((keys.shape[0], 2), jnp.int32), jnp.int32(1))
        state, _, total, _ = jax.lax.while_loop(lambda carry: ~jnp.all(carry[0].over), body, start)
        return jnp.concatenate([state.step[:, None].astype(jnp.int32), total], axis=1)

    return play


def measure(game: Game, lexicon: Lexicon | None, batch: int, seconds: float) -> Speed:
    """Plays batches for about some seconds."""
    devices = jax.devices()[: np.gcd(batch, jax.device_count())]
    mesh = Mesh(np.array(devices), ("batch",))
    share = PartitionSpec("batch")
    play = jax.shard_map(random_play(game, lexicon), mesh=mesh, in_specs=share, out_specs=share, check_vma=False)
    keys = jax.device_put(jax.random.split(jax.random.key(0), batch), NamedSharding(mesh, share))
    begun = time.perf_counter()
    program = jax.jit(play).lower(keys).compile()
    compile_seconds = time.perf_counter() - begun
    program(keys).block_until_ready()
    rounds, spent, counted = 0, 0.0, np.zeros(2)
    while spent < seconds:
        keys = jax.device_put(jax.random.split(jax.random.key(1 + rounds), batch), NamedSharding(mesh, share))
        begun = time.perf_counter()
        out = program(keys).block_until_ready()
        spent += time.perf_counter() - begun
        counted += np.asarray(out)[:, :2].sum(axis=0)
        rounds += 1
    decisions, tokens = counted / spent
    return Speed(batch, rounds * batch / spent, float(decisions), float(tokens), compile_seconds)


def state_bytes(game: Game) -> int:
    """Bytes of one episode's state."""
    state = jax.eval_shape(game.init, jax.random.key(0))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


def measure_game(name: str, batches: Sequence[int], seconds: float) -> dict[str, Any]:
    """All figures of a game, and of others' versions of it."""
    game, tokenizer = make(name), tiny_tokenizer()
    lexicon = build_lexicon(game.spec, tokenizer, vocab_size=tokenizer.vocab_size, brief=True)
    silent = [measure(game, None, batch, seconds) for batch in batches]
    spoken = [measure(game, lexicon, batch, seconds) for batch in batches]
    return {
        "state_bytes": state_bytes(game),
        "rules": [dataclasses.asdict(speed) for speed in silent],
        "with_text": [dataclasses.asdict(speed) for speed in spoken],
        "open_spiel": other_games.open_spiel(name, seconds),
        "text_arena": other_games.text_arena(name, seconds, tokenizer.encode),
    }


def rows_of(name: str, result: dict[str, Any]) -> list[list[Any]]:
    """The lines of a game."""
    lines: list[list[Any]] = []
    for silent, spoken in zip(result["rules"], result["with_text"], strict=True):
        lines.append([name, f"{silent['batch']:,}", f"{silent['games']:,.0f}", f"{silent['decisions']:,.0f}",
                      f"{spoken['decisions']:,.0f}", f"{spoken['tokens']:,.0f}", f"{result['state_bytes']:,}",
                      f"{silent['compile_seconds']:.1f} + {spoken['compile_seconds']:.1f}"])  # fmt: skip
    if result["open_spiel"]:
        other = result["open_spiel"]
        lines.append([f"  {other['name']}", 1, f"{other['games']:,.0f}", f"{other['decisions']:,.0f}", "", "", "", ""])
    if result["text_arena"]:
        other = result["text_arena"]
        lines.append([f"  {other['name']}", 1, "", "", f"{other['decisions']:,.0f}", f"{other['tokens']:,.0f}", "", ""])
    return lines


def ratios_of(name: str, result: dict[str, Any]) -> list[list[Any]]:
    """How many times the others, at the best batch."""
    lines = []
    if result["open_spiel"]:
        # By games: one decision there may be several picks here.
        best = max(speed["games"] for speed in result["rules"])
        ratio = best / result["open_spiel"]["games"]
        lines.append([name, "rules, games/s", result["open_spiel"]["name"], f"{ratio:,.1f}", ratio > 1])
    if result["text_arena"]:
        best = max(speed["decisions"] for speed in result["with_text"])
        ratio = best / result["text_arena"]["decisions"]
        goal = ratio >= GOAL_WITH_TEXT
        lines.append([name, "with text, decisions/s", result["text_arena"]["name"], f"{ratio:,.1f}", goal])
    return lines


def main() -> None:
    """Measures and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", default=",".join(GAMES), help="names, with default parameters")
    parser.add_argument("--batches", default="1,64,1024,16384", help="episodes side by side")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement, at least")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    unknown = [name for name in options.games.split(",") if name not in GAMES]
    if unknown:
        parser.error(f"there is no game {unknown[0]!r}; there are: {', '.join(GAMES)}")
    batches = [int(batch) for batch in options.batches.split(",")]
    results: dict[str, Any] = {}
    for name in options.games.split(","):
        begun = time.perf_counter()
        results[name] = measure_game(name, batches, options.seconds)
        print(f"{name}: {time.perf_counter() - begun:.0f} s", flush=True)
    headers = ["game", "batch", "games/s", "decisions/s", "with text", "tokens/s", "state bytes", "compile s"]
    print("\n" + text_table(headers, [row for name, result in results.items() for row in rows_of(name, result)]))
    ratios = [row for name, result in results.items() for row in ratios_of(name, result)]
    if ratios:
        print("\n" + text_table(["game", "what", "against", "times", "goal reached"], ratios))
    print(f"\n{jax.device_count()} cores here, one for the others")
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
