"""The grammar of replies: free sections with budgets, then a token trie over the labels of the legal actions."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from games.core import GameError, GameSpec, Phase
from games.text.framing import FRAMINGS, TextTokenizer

SECTIONS = ("thought", "speech", "action")
THOUGHT, SPEECH, ACTION = range(3)

# How a token of a stream came about (`Episodes.node`).
GIVEN = 0  # rendered, or forced by the grammar: never trained
THOUGHT_TOKEN = 1  # sampled from the tokens a thought may use, or its end
SPEECH_TOKEN = 2  # sampled from the tokens a speech may use, or its end
TRIE = 3  # TRIE + k: sampled among the live children of trie node k


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Grammar:
    """Tables of the label trie; node 0 is its root, paths end with the section's closing token.

    Attributes:
      child_tokens: int32[nodes, C], token of each child, 0 where there is none.
      child_nodes: int32[nodes, C], node it leads to, -1 where there is none.
      under: bool[nodes, A], labels whose path runs through the node.
      depth: int32[nodes].
      leaf: int32[nodes], the label that is complete at the node, -1 if none.
      label_tokens: int32[A, T], each label with its closing token, -1 beyond its end.
      label_nodes: int32[A, T + 1], node after each token.
      first_section: int32[phases].
      next_section: int32[phases, 3], the section after each one, -1 after the last.
      budgets: int32[phases, 3], most tokens of a free section without its close.
    """

    child_tokens: np.ndarray
    child_nodes: np.ndarray
    under: np.ndarray
    depth: np.ndarray
    leaf: np.ndarray
    label_tokens: np.ndarray
    label_nodes: np.ndarray
    first_section: np.ndarray
    next_section: np.ndarray
    budgets: np.ndarray


def sections_of(phase: Phase) -> list[int]:
    """The sections a reply in this phase has, in order."""
    present = (phase.thought_tokens > 0, phase.speech_tokens > 0, phase.action)
    return [section for section, used in enumerate(present) if used]


def build_grammar(spec: GameSpec, tokenizer: TextTokenizer) -> Grammar:
    """Compiles the trie of a game's labels for a tokenizer.

    Raises:
      GameError: if two labels have the same tokens.
    """
    close = tokenizer.control_id(FRAMINGS[tokenizer.family].section_close)
    labels = [[*tokenizer.encode(label), close] for label in spec.action_labels]
    children: list[dict[int, int]] = [{}]
    depth, paths = [0], []
    for tokens in labels:
        path = [0]
        for token in tokens:
            if token not in children[path[-1]]:
                children[path[-1]][token] = len(children)
                children.append({})
                depth.append(depth[path[-1]] + 1)
            path.append(children[path[-1]][token])
        paths.append(path)
    leaf = np.full(len(children), -1, np.int32)
    under = np.zeros((len(children), len(labels)), bool)
    longest = max(len(tokens) for tokens in labels)
    label_tokens = np.full((len(labels), longest), -1, np.int32)
    label_nodes = np.zeros((len(labels), longest + 1), np.int32)
    for index, (tokens, path) in enumerate(zip(labels, paths, strict=True)):
        if leaf[path[-1]] >= 0:
            other = spec.action_labels[leaf[path[-1]]]
            raise GameError(f"labels {other!r} and {spec.action_labels[index]!r} have the same tokens")
        leaf[path[-1]] = index
        under[path, index] = True
        label_tokens[index, : len(tokens)] = tokens
        label_nodes[index, : len(path)] = path
        label_nodes[index, len(path) :] = path[-1]
    widest = max(len(below) for below in children)
    child_tokens = np.zeros((len(children), widest), np.int32)
    child_nodes = np.full((len(children), widest), -1, np.int32)
    for node, below in enumerate(children):
        child_tokens[node, : len(below)] = list(below)
        child_nodes[node, : len(below)] = list(below.values())
    sections = [sections_of(phase) for phase in spec.phases]
    following = [dict(zip(used, used[1:], strict=False)) for used in sections]
    return Grammar(
        child_tokens=child_tokens,
        child_nodes=child_nodes,
        under=under,
        depth=np.array(depth, np.int32),
        leaf=leaf,
        label_tokens=label_tokens,
        label_nodes=label_nodes,
        first_section=np.array([used[0] if used else ACTION for used in sections], np.int32),
        next_section=np.array([[after.get(s, -1) for s in range(3)] for after in following], np.int32),
        budgets=np.array([[p.thought_tokens, p.speech_tokens, 0] for p in spec.phases], np.int32),
    )


class Trie(Protocol):
    """The part of a `Grammar` that tells which children are live."""

    @property
    def child_nodes(self) -> np.ndarray:
        """int32[nodes, C]."""

    @property
    def under(self) -> np.ndarray:
        """bool[nodes, A]."""


def live_children(trie: Trie, node: jax.Array, legal: jax.Array) -> jax.Array:
    """bool[..., C]: children of `node` int[...] that lead to a label in `legal` bool[..., A]."""
    below = jnp.asarray(trie.child_nodes)[node]
    reach = jnp.any(jnp.asarray(trie.under)[jnp.maximum(below, 0)] & legal[..., None, :], axis=-1)
    return (below >= 0) & reach


def forced_run(grammar: Grammar, node: jax.Array | int, legal: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The tokens that the grammar forces from a node on, because all live labels share them.

    Args:
      grammar: the trie.
      node: int[], current node.
      legal: bool[A], legal actions.

    Returns:
      tokens int32[T], how many of them are forced, and the node they lead to.
    """
    live = jnp.asarray(grammar.under)[node] & legal
    tokens = jnp.asarray(grammar.label_tokens)
    low = jnp.min(jnp.where(live[:, None], tokens, jnp.iinfo(jnp.int32).max), axis=0)
    high = jnp.max(jnp.where(live[:, None], tokens, -1), axis=0)
    depth = jnp.asarray(grammar.depth)[node]
    place = jnp.arange(tokens.shape[1])
    shared = (low == high) & (high >= 0)
    run = jnp.cumprod(jnp.where(place < depth, True, shared).astype(jnp.int32))
    count = jnp.sum(run) - depth
    label = jnp.argmax(live)
    ahead = jnp.take(tokens[label], depth + place, mode="clip")
    return jnp.where(place < count, ahead, 0), count, jnp.asarray(grammar.label_nodes)[label, depth + count]


def longest_forced_run(grammar: Grammar) -> int:
    """Most tokens that follow a sampled one without a choice, whatever is legal, in the middle of a label."""
    branches = (grammar.child_nodes >= 0).sum(axis=1)
    longest = 0
    for path in grammar.label_nodes:
        run = 0
        for node in path[1:]:  # a run that ends its label needs no model step and is not counted
            longest = max(longest, run if branches[node] > 1 else 0)
            run = run + 1 if branches[node] == 1 else 0
    return longest
