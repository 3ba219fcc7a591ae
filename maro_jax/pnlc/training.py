"""`python -m maro_jax.pnlc train`: datasets in, a critic's folder out, and whether it may guide."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import numpy as np

from maro_jax.pnlc.calibration import Calibration, calibrate
from maro_jax.pnlc.embedders import Embedder, embedder_of
from maro_jax.pnlc.embedding_cache import cached
from maro_jax.pnlc.labelling import (
    Texts,
    chosen_goals,
    different,
    open_sources,
    read_texts,
    transitions,
    with_medoids,
)
from maro_jax.pnlc.recognition import recognised
from maro_jax.pnlc.storage import SavedCritic, save
from maro_jax.pnlc.transitions import Transitions, reached_later, split_by_episode
from maro_jax.pnlc.value import ValueOptions, train
from maro_jax.run.console import Console, format_duration, table
from maro_jax.run.embedder_names import is_api_embedder
from maro_jax.run.pnlc_config import CriticConfig
from maro_jax.selfplay.episodes import HOLDERS


def run(config: CriticConfig, console: Console) -> SavedCritic:
    """Trains a critic and saves it.

    Args:
      config: from what, how, where to.
      console: is told how far it is and what came of it.

    Returns:
      What was saved.

    Raises:
      ConfigError: data, embedder or goals cannot be used, in one sentence.
    """
    began = time.monotonic()
    sources, laid = open_sources(config.folders, config.model)
    embedder = embedder_of(
        config.embedder, batch=config.embed_batch, base_url=config.api_base, key_variable=config.api_key_variable
    )
    episodes = sum(map(len, sources))
    with _phase(console, "episodes read", episodes) as progress:
        texts = read_texts(sources, laid, chosen_goals(laid, config.goals), _holders(config), progress)
    console.line(
        f"{len(texts.state):,} decisions with thoughts in {episodes - texts.left_out:,} episodes of {laid.spec.name}"
        + (f"; {texts.left_out:,} that did not end by the rules are left out" if texts.left_out else "")
    )
    data, wordings = _embedded(config, texts, embedder, console)
    rows, held_out = split_by_episode(data, config.held_out, config.seed)
    goals = [goal.texts[0] for goal in texts.goals]
    medoids = None
    if config.medoids:
        data, medoids, chosen = with_medoids(data, rows, config.medoids, config.seed)
        goals += [texts.state[row] for row in chosen]
    vicinity, recognition = recognised(wordings, medoids, config.seed)
    options = options_of(config)
    with _phase(console, "steps", options.steps) as progress:
        critic, _ = train(data, rows, options, progress)
    calibration = calibrate(critic, data, held_out, seed=config.seed)
    utilities = [goal.utility for goal in texts.goals] + [0.0] * (len(goals) - len(texts.goals))
    saved = SavedCritic(
        critic=critic,
        goals=tuple(goals),
        utilities=tuple(utilities),
        reach=tuple(vicinity.reach.tolist()),
        game=laid.spec.name,
        parameters=dict(laid.spec.parameters),
        embedder=embedder.name,
        options=options,
        calibration=calibration,
        embedder_address=address_of(config),
        recognition=recognition,
    )
    save(config.out, saved)
    for line in report(saved, texts, data, held_out):
        console.line(line)
    console.line(f"{format_duration(time.monotonic() - began)} in all; the critic: {config.out}")
    return saved


def address_of(config: CriticConfig) -> str:
    """The server that embeds the texts, without what may be a key in it; empty where none does, or OpenAI's."""
    if not is_api_embedder(config.embedder):
        return ""
    parts = urlsplit(config.api_base or os.environ.get("OPENAI_BASE_URL", ""))
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def options_of(config: CriticConfig) -> ValueOptions:
    """How the critic is trained."""
    return ValueOptions(
        expectile=config.expectile,
        future_goals=config.future_goals,
        discount=config.discount,
        steps=config.steps,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        seed=config.seed,
    )


def report(saved: SavedCritic, texts: Texts, data: Transitions, held_out: np.ndarray) -> list[str]:
    """What is told of a critic: its goals, how its chances came true on held-out episodes, how its
    embedder takes other words for goals, and whether it may guide."""
    came = reached_later(data)[held_out].mean(axis=0)
    rows: list[Sequence[Any]] = [
        (goal.texts[0], goal.utility, float(share)) for goal, share in zip(texts.goals, came, strict=False)
    ]
    lines = [table(("goal", "utility", "came true"), rows)]
    if len(came) > len(rows):
        lines.append(f"and {len(came) - len(rows)} medoids of states")
    lines += ["", *calibration_lines(saved.calibration)]
    if saved.recognition:
        verdict = "it may refine" if saved.recognition.may_refine else "it may not refine"
        lines.append(f"{saved.recognition.in_words}: {verdict}")
    return lines


def calibration_lines(found: Calibration) -> list[str]:
    """A critic's calibration in words, and the verdict."""
    bins = [
        (f"{each.low:.1f} to {each.high:.1f}", each.forecasts, each.forecast, each.frequency)
        for each in found.bins if each.forecasts
    ]  # fmt: skip
    interval = f"[{found.gain_low:.4f}, {found.gain_high:.4f}]"
    verdict = "it may guide" if found.may_guide else "it may not guide: " + (
        "the whole interval must be above 0" if found.beats_rates else "the goals' shares forecast better"
    )  # fmt: skip
    shares = "" if found.rates_log_loss is None else f", {found.rates_log_loss:.4f} by the goals' shares alone"
    return [
        table(("chance", "forecasts", "mean", "came true"), bins),
        "",
        f"held out: {found.transitions:,} decisions in {found.episodes:,} episodes, {found.goals} goals",
        f"calibration error {found.error:.4f}; log loss {found.q_log_loss:.4f} with the thought, "
        f"{found.before_log_loss:.4f} before it" + shares,
        f"gain {found.gain:.4f} {interval} ({100 * found.confidence:g} %): {verdict}",
    ]


def _embedded(
    config: CriticConfig, texts: Texts, embedder: Embedder, console: Console
) -> tuple[Transitions, list[np.ndarray]]:
    """See `transitions`; through the cache on disk where there is one."""
    with (
        cached(embedder, config.embeddings, console) as through,
        _phase(console, "texts embedded", len(different(texts))) as progress,
    ):
        return transitions(texts, through, progress)


@contextlib.contextmanager
def _phase(console: Console, name: str, total: int) -> Any:
    """A phase's `update`, and its end."""
    phase = console.phase(name, total)
    yield phase.update
    phase.finish()


def _holders(config: CriticConfig) -> tuple[str, ...]:
    return HOLDERS if config.holders == "all" else tuple(name.strip() for name in config.holders.split(","))
