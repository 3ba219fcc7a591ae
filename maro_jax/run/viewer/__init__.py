"""The parts of the replay page: its frame, its style and the pieces of its script, in the order of `PIECES`."""

# Each piece uses those before it only; the page holds them as one script.
PIECES = ("data.js", "dom.js", "tip.js", "game.js", "curves.js", "app.js")
