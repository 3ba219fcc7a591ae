"""The label trie on the device against one of plain dictionaries, and the sections of replies."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from games.core import GameError, Phase
from games.registry import make
from games.text.framing import TextTokenizer
from games.text.grammar import ACTION, SECTIONS, Grammar, build_grammar, forced_run, live_children
from tests.games.recording import QUICKLY
from tests.games.text import host

SPEC = make("werewolf-v0", num_seats=9, speech_tokens=7, thought_tokens=5).spec


@functools.cache
def grammar_of(family: str) -> Grammar:
    return build_grammar(SPEC, host.tokenizer_of(family))


def paths(tokenizer: TextTokenizer) -> list[tuple[int, ...]]:
    """Each label's tokens with what ends it."""
    return [(*tokenizer.encode(label), host.close(tokenizer)) for label in SPEC.action_labels]


def nodes_by_prefix(grammar: Grammar) -> dict[tuple[int, ...], int]:
    """Every node by the tokens that lead to it."""
    found = {(): 0}
    for prefix, node in (walk := list(found.items())):
        for token, child in zip(grammar.child_tokens[node].tolist(), grammar.child_nodes[node].tolist(), strict=True):
            if child >= 0:
                found[(*prefix, token)] = child
                walk.append(((*prefix, token), child))
    return found


@pytest.mark.parametrize("family", host.FAMILIES)
def test_no_label_with_its_end_opens_another(family: str):
    labels = paths(host.tokenizer_of(family))
    assert len(set(labels)) == len(labels)
    for index, label in enumerate(labels):
        for other, longer in enumerate(labels):
            assert index == other or longer[: len(label)] != label


@pytest.mark.parametrize("family", host.FAMILIES)
def test_the_trie_holds_every_label_and_nothing_else(family: str):
    grammar, labels = grammar_of(family), paths(host.tokenizer_of(family))
    nodes = nodes_by_prefix(grammar)
    assert set(nodes) == {label[:length] for label in labels for length in range(len(label) + 1)}
    assert sorted(nodes.values()) == list(range(len(grammar.leaf)))
    for prefix, node in nodes.items():
        assert grammar.depth[node] == len(prefix)
        assert grammar.leaf[node] == (labels.index(prefix) if prefix in labels else -1)
        assert grammar.under[node].tolist() == [label[: len(prefix)] == prefix for label in labels]
    for index, label in enumerate(labels):
        width = grammar.label_tokens.shape[1]
        assert grammar.label_tokens[index].tolist() == [*label, *[-1] * (width - len(label))]
        along = [nodes[label[:length]] for length in range(len(label) + 1)]
        assert grammar.label_nodes[index].tolist() == along + [along[-1]] * (width - len(label))


@pytest.mark.parametrize("family", host.FAMILIES)
def test_only_legal_labels_can_be_reached_and_what_they_share_is_forced(family: str):
    grammar, labels = grammar_of(family), paths(host.tokenizer_of(family))
    nodes = nodes_by_prefix(grammar)
    chance = np.random.default_rng(1)
    cases = []
    for _ in range(60):
        legal = np.zeros(len(labels), bool)
        legal[chance.choice(len(labels), chance.integers(1, 6), replace=False)] = True
        cases += [(prefix, node, legal) for prefix, node in nodes.items()]
    masks = jnp.array([legal for *_, legal in cases])
    at = jnp.array([node for _, node, _ in cases])
    live = np.asarray(jax.jit(functools.partial(live_children, grammar))(at, masks))
    runs = jax.jit(jax.vmap(functools.partial(forced_run, grammar)), compiler_options=QUICKLY)(at, masks)
    checked = 0
    found = zip(cases, live, *map(np.asarray, runs), strict=True)
    for (prefix, node, legal), children, tokens, count, reached in found:
        allowed = [label for index, label in enumerate(labels) if legal[index] and label[: len(prefix)] == prefix]
        expected = {label[len(prefix)] for label in allowed if len(label) > len(prefix)}
        assert set(grammar.child_tokens[node][children].tolist()) == expected
        if allowed:  # where no legal label lies below, decoding never comes
            shared = prefix
            while len(after := {label[: len(shared) + 1] for label in allowed}) == 1 and shared not in allowed:
                shared = after.pop()
            assert tuple(tokens[:count].tolist()) == shared[len(prefix) :]
            assert reached == nodes[shared]
            checked += 1
    assert checked > 500


def test_each_phase_asks_for_its_sections():
    grammar = grammar_of("tiny")
    for phase, kind in enumerate(SPEC.phases[:-1]):
        used = [SECTIONS.index(section) for section in host.sections(SPEC, phase)]
        assert used[-1] == ACTION
        assert grammar.first_section[phase] == used[0]
        for section in range(len(SECTIONS)):
            after = used[used.index(section) + 1 :] if section in used else []
            assert grammar.next_section[phase, section] == (after[0] if after else -1)
        assert grammar.budgets[phase].tolist() == [kind.thought_tokens, kind.speech_tokens, 0]


def test_a_reply_may_end_in_a_speech():
    spec = make("werewolf-v0", num_seats=5, speech_tokens=7, speech_acts=False).spec
    grammar = build_grammar(spec, host.tokenizer_of("tiny"))
    speak = [phase.name for phase in spec.phases].index("speak")
    assert isinstance(spec.phases[speak], Phase)
    assert SECTIONS[grammar.first_section[speak]] == "speech"
    assert grammar.next_section[speak].tolist() == [-1, -1, -1]


def test_labels_of_equal_tokens_are_refused():
    # The tiny tokenizer knows neither letter and writes a question mark for both.
    spec = dataclasses.replace(SPEC, action_labels=(" é", " ü", *SPEC.action_labels[2:]))
    with pytest.raises(GameError, match="labels ' é' and ' ü' have the same tokens"):
        build_grammar(spec, host.tokenizer_of("tiny"))
