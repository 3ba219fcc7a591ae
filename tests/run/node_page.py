"""The replay page as its script draws it, in Node with a small page of our own (small_dom.js) in a browser's place."""

import html.parser
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NODE = shutil.which("node")
VOID = ("meta", "input")
_RUN = """
const vm = require("node:vm");
Object.assign(globalThis, openPage(tree, place));
for (const code of [script, then]) vm.runInThisContext(code);
process.stdout.write(document.documentElement.html);
"""


class _Tree(html.parser.HTMLParser):
    """A page as nested lists: tag, attributes, children."""

    def __init__(self, text: str):
        super().__init__()
        self.path: list[list[Any]] = [["page", {}]]
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        node = [tag, dict(attrs)]
        self.path[-1].append(node)
        if tag not in VOID:
            self.path.append(node)

    def handle_endtag(self, tag):
        assert self.path.pop()[0] == tag

    def handle_data(self, data):
        self.path[-1].append(data)


def _nodes(node: list[Any]) -> Iterator[list[Any]]:
    yield node
    for child in node[2:]:
        if isinstance(child, list):
            yield from _nodes(child)


def drawn(page: str, place: str = "", then: str = "") -> str:
    """A page's elements when its script has run, as HTML.

    Args:
      page: its text.
      place: what its address names, such as `#curves`.
      then: what to do in it afterwards, in its own language.
    """
    tree = _Tree(page)
    assert len(tree.path) == 1, "an element is not closed"
    [root] = [child for child in tree.path[0][2:] if isinstance(child, list)]
    [script] = [node[2] for node in _nodes(root) if node[:2] == ["script", {}]]
    given = {"tree": root, "place": place, "script": script, "then": then}
    constants = "".join(f"const {name} = {json.dumps(value)};\n" for name, value in given.items())
    code = Path(__file__).with_name("small_dom.js").read_text() + constants + _RUN
    done = subprocess.run([NODE, "-"], input=code, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
