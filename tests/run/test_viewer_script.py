"""The script's functions that need no page, run by Node where it is installed, against plain Python."""

import json
import math
import re
import shutil
import subprocess
from importlib import resources

import pytest

from maro_jax.run.replay_packing import pack
from maro_jax.run.viewer import PIECES
from tests.run.replay_pages import assert_same, made_up_games

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="Node is not installed; the script's functions run in it")
GAMES = [*made_up_games(40, days=2), *made_up_games(20, days=3, seed=1)]
GAMES[5]["items"][0]["text"] = "</script> You are “Player 1”\u2028"


def _piece(name: str) -> str:
    return (resources.files("maro_jax.run.viewer") / name).read_text(encoding="utf-8")


def _evaluate(expression: str, **values):
    """The value of an expression beside the functions of data.js and some constants."""
    constants = "".join(f"const {name} = {json.dumps(value)};\n" for name, value in values.items())
    code = f'"use strict";\n{_piece("data.js")}\n{constants}process.stdout.write(JSON.stringify({expression}))'
    done = subprocess.run([NODE, "-"], input=code, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_node
def test_games_come_out_as_they_were_recorded():
    shown = _evaluate(
        "data.games.map((_, index) => ({ ...summarise(data, index), items: openGame(data, index) }))", data=pack(GAMES)
    )
    for index, (read, game) in enumerate(zip(shown, GAMES, strict=True)):
        assert read.pop("index") == index
        assert read.pop("decisions") == sum(item["type"] == "behaviour" for item in game["items"])
        strongest = max((abs(item["weight"]) for item in game["items"] if item.get("weight")), default=0)
        assert math.isclose(read.pop("strongest"), strongest, rel_tol=1e-4)
        for place, item in enumerate(read["items"]):
            assert item.pop("place") == place
            item.pop("isEcho", None)
            if item["type"] == "behaviour":
                item.pop("echoes"), item.pop("channel")
        assert_same(read, game)


@needs_node
def test_a_decision_carries_what_others_were_told_of_it():
    """In made-up games each decision is followed by the row that tells of it; speeches are told to everybody."""
    for items in _evaluate("data.games.map((_, index) => openGame(data, index))", data=pack(GAMES[:5])):
        for item, following in zip(items, items[1:], strict=False):
            if item["type"] == "behaviour":
                assert [echo["place"] for echo in item["echoes"]] == [following["place"]] and following["isEcho"]
                assert item["channel"] == ("public" if item["phase"] == "speak" else "private")
            else:
                assert following["type"] == "behaviour" or "isEcho" not in following


def _result(game):
    return f"{game['winner']} won" if game["winner"] else "cut off" if game["truncated"] else "drawn"


def _holds(game, text):
    names = ("text", "thought", "speech", "action")
    return any(text.lower() in item.get(name, "").lower() for item in game["items"] for name in names)


def _passes(game, asked):
    """The filters once more, from what they promise."""
    seats = [
        seat
        for seat in game["seats"]
        if asked.get("role") in (None, "", seat["role"]) and asked.get("holder") in (None, "", seat["holder"])
    ]
    outcome = asked.get("outcome", "")
    if outcome.startswith("result:"):
        ended = outcome == f"result:{_result(game)}"
    else:
        signs = {"": (-1, 0, 1), "seat:won": (1,), "seat:lost": (-1,), "seat:nothing": (0,)}[outcome]
        ended = any(seat["outcome"] in signs for seat in seats)
    of_game = asked.get("game", "") in ("", game["game"]) and asked.get("iteration", "") in ("", str(game["iteration"]))
    return bool(seats) and ended and of_game and (not asked.get("text") or _holds(game, asked["text"]))


ASKED = [
    {},
    {"game": "avalon-v0"},
    {"iteration": "3"},
    {"role": "wolf"},
    {"role": "merlin"},
    {"holder": "learner"},
    {"role": "wolf", "holder": "learner", "outcome": "seat:won"},
    {"role": "seer", "outcome": "seat:lost"},
    {"holder": "opponent", "outcome": "seat:nothing"},
    {"outcome": "result:wolves won"},
    {"outcome": "result:cut off"},
    {"outcome": "result:drawn", "iteration": "2"},
    {"text": "DEFEND player 3"},
    {"text": "</script>"},
    {"text": "nobody ever said this"},
    {"text": "quietly", "game": "werewolf-v0", "role": "doctor", "outcome": "seat:won"},
]


@needs_node
def test_filters_keep_what_was_asked_for():
    shown = _evaluate(
        "asked.map((filters) => filterGames(data, data.games.map((_, index) => summarise(data, index)), filters))",
        data=pack(GAMES),
        asked=ASKED,
    )
    expected = [[index for index, game in enumerate(GAMES) if _passes(game, asked)] for asked in ASKED]
    assert shown == expected
    assert [len(of) for of in expected].count(0) == 2 and shown[0] == list(range(60))


@needs_node
def test_games_are_put_in_order():
    keys = {
        "newest": lambda index: -GAMES[index]["iteration"],
        "oldest": lambda index: GAMES[index]["iteration"],
        "credit": lambda index: -max((item.get("weight") or 0 for item in GAMES[index]["items"]), default=0),
        "long": lambda index: -sum(item["type"] == "behaviour" for item in GAMES[index]["items"]),
    }
    indices = list(range(5, 55))
    shown = _evaluate(
        "orders.map((order) => sortGames(data.games.map((_, index) => summarise(data, index)), indices, order))",
        data=pack(GAMES),
        orders=list(keys),
        indices=indices,
    )
    assert shown == [sorted(indices, key=key) for key in keys.values()]


@needs_node
def test_views_hide_what_a_seat_cannot_know():
    items = GAMES[0]["items"]
    views = ["all", "public", "0", "3"]
    shown = _evaluate(
        "views.map((view) => openGame(data, 0).map((item) => [isVisible(item, view), isInItsCard(item, view)]))",
        data=pack(GAMES[:1]),
        views=views,
    )
    for view, visible in zip(views, shown, strict=True):
        for place, (item, (is_visible, in_card)) in enumerate(zip(items, visible, strict=True)):
            if view == "all":
                expected = True
            elif item["type"] == "event":
                public = len({*item["audience"], item["actor"]} - {None}) == 6
                expected = public if view == "public" else int(view) in {*item["audience"], item["actor"]}
            else:
                expected = view != "public" and item["seat"] == int(view)
            assert is_visible == expected, (view, item)
            # What repeats a decision is drawn with it, exactly where the decision itself is shown.
            repeats = item["type"] == "event" and items[place - 1]["type"] == "behaviour"
            assert in_card == (repeats and visible[place - 1][0]), (view, item)


@needs_node
def test_probabilities_of_choices_are_those_that_are_known():
    def item(holder="learner", legal=("a", "b"), odds=0.25, action="a"):
        return {"holder": holder, "legal": list(legal), "action": action, "action_log_prob": odds and math.log(odds)}

    items = [item(), item(legal="abcd"), item(holder="heuristic"), item(legal="a"), item(odds=None)]
    two, four, *unknown = _evaluate("items.map(choices)", items=items)
    assert [of["probability"] for of in two["labels"]] == pytest.approx([0.25, 0.75])
    assert [of["probability"] for of in four["labels"]] == [pytest.approx(0.25), None, None, None]
    assert four["rest"] == pytest.approx(0.75)
    assert [of["isTaken"] for of in four["labels"]] == [True, False, False, False]
    for of in unknown:
        assert of["taken"] is None and {label["probability"] for label in of["labels"]} == {None}


@needs_node
def test_marks_of_a_scale_are_round_few_and_within_it():
    ranges = [[0, 1], [0.38, 0.62], [-0.003, 0.004], [1, 20], [1, 9999], [-5e-7, 8e-7], [2.5e6, 3e6], [7, 7.0001]]
    for (low, high), marks in zip(ranges, _evaluate("ranges.map(([a, b]) => ticks(a, b))", ranges=ranges), strict=True):
        assert 3 <= len(marks) <= 7 and low - 1e-9 <= marks[0] and marks[-1] <= high * (1 + 1e-9), (low, high, marks)
        steps = {f"{later - mark:.6e}" for mark, later in zip(marks, marks[1:], strict=False)}
        assert len(steps) == 1 and re.fullmatch(r"[125]\.0+e[+-]\d+", steps.pop())


@needs_node
def test_marks_are_written_with_the_digits_they_need():
    marks = [[0, 0.5, 1], [0.3, 0.4, 0.5], [60, 65, 70], [0.48, 0.5, 0.52], [1e6, 2e6, 3e6], [-2e-5, 0, 2e-5], [4]]
    assert _evaluate("marks.map((of) => of.map((mark) => markText(mark, of)))", marks=marks) == [
        ["0.0", "0.5", "1.0"], ["0.3", "0.4", "0.5"], ["60", "65", "70"], ["0.48", "0.50", "0.52"],
        ["1e6", "2e6", "3e6"], ["−2e−5", "0", "2e−5"], ["4"],
    ]  # fmt: skip


@needs_node
def test_numbers_read_as_people_write_them():
    shown = _evaluate(
        "[show(-0.5), show(null), show(-0.0001), signed(0.25, 2), signed(-1, 0), signed(0), brief(12345),"
        " brief(0.00002), brief(-0.25), percent(0.5), percent(0.0004), percent(0.034), nearest([1, 5, 9], 6)]"
    )
    assert shown == [
        "−0.500", "–", "0.000", "+0.25", "−1", "0.000", "12345", "2.0e−5", "−0.250", "50 %", "< 0.1 %", "3.4 %", 1
    ]  # fmt: skip


@needs_node
@pytest.mark.parametrize("name", PIECES)
def test_pieces_are_valid_scripts(name, tmp_path):
    file = tmp_path / "piece.js"
    file.write_text('"use strict";\n' + _piece(name))
    done = subprocess.run([NODE, "--check", file], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_all_pieces_are_in_the_page():
    folder = resources.files("maro_jax.run.viewer")
    assert {file.name for file in folder.iterdir() if file.name.endswith(".js")} == set(PIECES)
