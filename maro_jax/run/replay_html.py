"""Recorded games and learning curves as one HTML file that needs no network and runs no text of a game.

A game is a dictionary of plain values, as a run stores it under `games/`:

    game, iteration, episode, seed, terminated, truncated, winner (a side's name, or "")
    seats: [{name, role, side, holder, outcome}]
    items, in the order of play:
      {type: "event", kind, text, channel: "public" | "private", actor: seat or None, audience: [seat, ...]}
      {type: "behaviour", seat, role, phase, thought, speech, action, legal: [label, ...], log_prob, action_log_prob,
       return, advantage, weight, sign, holder}

An event is public if every seat may see it, the one that caused it aside. `log_prob` is that of the whole reply,
`action_log_prob` that of its action alone, both in nats. Credit is `weight · sign`, where `--utility=dro` gives a sign
of any size; a behaviour whose weight is None carried none (a scripted seat's, say).
"""

from __future__ import annotations

import base64
import hashlib
import html
import importlib.resources
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from maro_jax.run.config import warm_iterations_of
from maro_jax.run.curves import charts, final_results
from maro_jax.run.directory import read_games, read_matches, read_metrics, recorded_config
from maro_jax.run.fields import ConfigError
from maro_jax.run.replay_packing import pack
from maro_jax.run.viewer import PIECES


def write_replay(run: Path, output: Path, max_games: int = 0) -> Path:
    """Writes a run's recorded games and its curves as a self-contained page.

    Args:
      run: folder of the run.
      output: file to write.
      max_games: newest games to show, 0 for all.

    Returns:
      The file's absolute path.

    Raises:
      ConfigError: if the run has no recorded games, or a file of it is damaged.
    """
    games = read_games(run)
    if not games:
        raise ConfigError(f"{run} holds no recorded games so far; train on with the command that began it")
    curves = {
        "sections": charts(read_metrics(run), warm_iterations_of(recorded_config(run) or {})),
        "matches": final_results(read_matches(run)),
    }
    page = render(games[-max_games:], f"maro-jax replay: {run.name}", curves)
    output.write_text(page, encoding="utf-8", errors="replace")
    return output.resolve()


def render(games: Sequence[Mapping[str, Any]], title: str, curves: Mapping[str, Any] | None = None) -> str:
    """Draws recorded games as one self-contained page.

    Everything a model wrote lies in a JSON block, in which no `<` remains, and the page's script
    inserts it as text only. A Content-Security-Policy admits that one script and style by their
    hashes and nothing else, no connection at all.

    Args:
      games: in the schema above.
      title: heading of the page.
      curves: `sections` of charts and final `matches`, as `maro_jax.run.curves` lays them out; None without any.

    Returns:
      The HTML document.
    """
    folder = importlib.resources.files("maro_jax.run.viewer")
    style = (folder / "style.css").read_text(encoding="utf-8")
    script = '"use strict";\n' + "".join((folder / piece).read_text(encoding="utf-8") for piece in PIECES)
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    parts = {
        "policy": policy,
        "title": html.escape(title),
        "style": style,
        "script": script,
        "data": _embed({"title": title, **pack(games), "curves": curves}),
    }
    page = (folder / "page.html").read_text(encoding="utf-8")
    # In one pass, so that a placeholder spelled in a game's text stays text.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], page)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _embed(content: Any) -> str:
    """JSON that cannot end the script element, nor hold what JSON or HTML does not know."""
    text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
