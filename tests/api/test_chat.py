"""An API player reads what the policy in its seat would read: its own stream, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from games.core import GameSpec
from games.text.transcript import event_text
from maro_jax.api.chat import choices, messages
from maro_jax.api.prompts import Prompts
from maro_jax.data.retell import text_table
from maro_jax.run.fields import ConfigError
from maro_jax.selfplay.episodes import API, Episodes, RolloutPlan
from maro_jax.selfplay.hosted import HostedGames, Reply, Turn
from maro_jax.selfplay.table import Table
from tests.selfplay.playing import world

pytestmark = pytest.mark.usefixtures("kept_programs")

SPEECH, THOUGHT = " I accuse Player 2", " accuse"
GAMES = 2


def table_of(name: str) -> Table:
    if name == "tiny":
        texts = {"num_seats": 5, "max_days": 1, "speech_tokens": 4, "thought_tokens": 3}
        return text_table("werewolf-v0", texts, "tiny")
    return world(name).table


def played(table: Table) -> tuple[Episodes, list[tuple[Turn, Any]]]:
    """Games in which every seat is answered from outside at random, and each question as it was asked."""
    number = np.arange(GAMES, dtype=np.int32)
    plan = RolloutPlan(number, number, np.full((GAMES, len(table.spec.sides)), API, np.int8))
    games = HostedGames(table, table.stream_capacity(0, "refuse"), GAMES, plan, jax.random.key(3))
    chance, asked, prompts = np.random.default_rng(0), [], Prompts.load()
    speech, thought = table.tokenizer.encode(SPEECH), table.tokenizer.encode(THOUGHT)
    while turns := games.run():
        asked += [(turn, messages(table, turn, prompts)) for turn in turns]
        games.reply({turn.lane: Reply(int(chance.choice(turn.legal)), speech, thought) for turn in turns})
    return games.episodes(), asked


def lines_seen(spec: GameSpec, episodes: Episodes, turn: Turn, said: str) -> list[str]:
    """From the event log alone: what a seat was shown and asked until now, turn by turn."""
    episode, made = turn.episode, episodes.behaviours
    rows, audience, step = (
        field[episode] for field in (episodes.event_rows, episodes.event_audience, episodes.event_step)
    )
    turns, shown = [], 0
    for decision in range(turn.decision + 1):
        if made.seat[episode, decision] != turn.seat:
            continue
        lines = []
        while shown < episodes.event_count[episode] and step[shown] <= decision:
            if int(audience[shown]) >> turn.seat & 1:
                lines.append(event_text(spec, rows[shown], said).strip())
            shown += 1
        prompt = spec.phases[made.phase[episode, decision]].prompt.strip()
        turns.append("\n".join([*lines, *([prompt] if prompt else [])]))
    return turns


@pytest.mark.parametrize("name", ["tiny", pytest.param("qwen3", marks=pytest.mark.slow),
                                  pytest.param("llama", marks=pytest.mark.slow)])  # fmt: skip
def test_the_chat_is_what_the_log_lets_the_seat_see(name: str):
    table = table_of(name)
    episodes, asked = played(table)
    spec, longest = table.spec, 0
    kept = table.tokenizer.encode(SPEECH)[: spec.speech_tokens]
    said = table.tokenizer.decode([token for token in kept if table.lexicon.speech_mask[token]])
    assert len(asked) > 4 * GAMES or name != "tiny"
    for turn, chat in asked:
        expected = lines_seen(spec, episodes, turn, said)
        told = [message["content"] for message in chat if message["role"] == "user"]
        assert told[:-1] == expected[:-1]
        assert told[-1].startswith(expected[-1] + "\n\nReply in this form:")
        listed = told[-1].partition("Choices:\n")[2].splitlines()
        assert listed == [f"- {label}" for label in choices(table, turn)]
        system = chat[0]["content"]
        assert chat[0]["role"] == "system" and spec.role_texts[turn.role][0].strip() in system
        others = [texts[0].strip() for role, texts in enumerate(spec.role_texts) if role != turn.role]
        assert not any(text in system for text in others)
        mine = [message["content"].splitlines()[-1] for message in chat if message["role"] == "assistant"]
        own = [number for number in range(turn.decision) if episodes.behaviours.seat[turn.episode, number] == turn.seat]
        actions = episodes.behaviours.action[turn.episode, own]
        assert mine == [f"Action: {spec.action_labels[action].strip()}" for action in actions]
        longest = max(longest, len(own))
    assert longest >= 1 and (episodes.terminated | episodes.truncated).all()


def test_prompts_of_a_user_take_the_place_of_the_packages(tmp_path: Path):
    (tmp_path / "act.txt").write_text("$news\nPick: $choices\nReply in this form: $$")
    prompts = Prompts.load(str(tmp_path))
    assert prompts.act.substitute(news="A", choices="B") == "A\nPick: B\nReply in this form: $"
    assert prompts.system.template == Prompts.load().system.template


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("act.txt", "$news", r"act.txt lacks \$choices.*it has \$news, \$choices"),
        ("act.txt", "$news $choices $secret", r"holds \$secret, which is no placeholder"),
        ("again.txt", "$problem costs $ 5", r"write \$\$ for the sign"),
        ("vote.txt", "$news", "vote.txt is none of the prompts, which are system.txt"),
        ("act.md", "$news", "holds none of system.txt"),
    ],
)
def test_prompts_that_cannot_work_are_refused(tmp_path: Path, name: str, text: str, sentence: str):
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        Prompts.load(str(tmp_path))
