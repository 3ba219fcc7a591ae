"""A real HTTP server on this machine that speaks the OpenAI chat protocol: a random legal player that can misbehave."""

from __future__ import annotations

import contextlib
import json
import random
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# What may happen to a request, beside the answer.
Plan = Callable[[int], str]
SLOW = 0.05  # seconds
DEAF = 30.0  # seconds, or until the server closes


def legal_player(messages: list[dict[str, str]], chance: random.Random) -> str:
    """A reply with one of the listed choices, drawn by chance."""
    asked = next(message["content"] for message in reversed(messages) if "Reply in this form" in message["content"])
    listed = re.findall(r"^- (.+)$", asked, re.MULTILINE)
    lines = ["Thought: anything will do"]
    lines += ["Speech: I pass"] if "Speech:" in asked else []
    lines += [f"Action: {chance.choice(listed)}"] if listed else []
    return "\n".join(lines)


def embeddings_of(texts: list[str]) -> dict[str, Any]:
    """An answer with three numbers for each text, the last text first, as the protocol allows."""
    rows = [{"index": index, "embedding": [len(text), text.count(" "), index]} for index, text in enumerate(texts)]
    return {"object": "list", "data": rows[::-1], "usage": {"prompt_tokens": len(texts), "total_tokens": len(texts)}}


class ChatServer(ThreadingHTTPServer):
    """The server.

    Attributes:
      plan: what happens to the request of this number, from 0; see `_Handler.do_POST`.
      player: what is answered to a list of messages.
      bodies, keys: of all requests so far.
      most: requests in flight at most.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, plan: Plan, player: Callable[[list[dict[str, str]]], str]):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.plan, self.player = plan, player
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.in_flight = self.most = 0
        self.lock, self.closing = threading.Lock(), threading.Event()

    @property
    def address(self) -> str:
        """As `--api_base` takes it."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ChatServer

    def do_POST(self) -> None:  # noqa: N802 - the name that http.server asks for
        server, body = self.server, json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            number = len(server.bodies)
            server.bodies.append(body)
            server.keys.append(self.headers["Authorization"])
            server.in_flight += 1
            server.most = max(server.most, server.in_flight)
        self.counted = True
        try:
            self._answer(body, server.plan(number))
        finally:
            self._leave()

    def _leave(self) -> None:
        """The request is no longer in flight: told before its answer is sent, which the next request may overtake."""
        with self.server.lock:
            self.server.in_flight -= self.counted
            self.counted = False

    def _answer(self, body: dict[str, Any], what: str) -> None:
        key = self.headers["Authorization"].removeprefix("Bearer ")
        if what == "deaf":
            self.server.closing.wait(DEAF)
            return
        if what == "dropped":  # a reset instead of an answer
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            return
        if what == "cut":  # half an answer
            self._send(200, b'{"choices": [{"mess', length=1000)
            self.close_connection = True
            return
        if what == "malformed":
            self._send(200, b"<html>no JSON</html>")
            return
        if what == "empty":
            self._send(200, b'{"choices": []}')
            return
        if re.match(r"\d{3}( |$)", what):
            status, _, wait = what.partition(" ")
            said = json.dumps({"error": {"message": f"not now, said to {key}", "code": "limited"}}).encode()
            self._send(int(status), said, {"Retry-After": wait} if wait else {})
            return
        if what == "wants max_completion_tokens" and "max_tokens" in body:
            time.sleep(SLOW)  # others are sent in the old form meanwhile
            self._send(400, b'{"error": {"message": "Use \'max_completion_tokens\' instead."}}')
            return
        if what == "slow":
            time.sleep(SLOW)
        if "input" in body:
            self._send(200, json.dumps(embeddings_of(body["input"])).encode())
            return
        text = what.removeprefix("says ") if what.startswith("says ") else self.server.player(body["messages"])
        usage = {"prompt_tokens": 100, "completion_tokens": 10}
        finish = "stop"
        if what.startswith("thinks "):  # until its tokens are used up
            text, finish = what.removeprefix("thinks "), "length"
        message = {"role": "assistant", "content": text}
        self._send(200, json.dumps({"id": "1", "object": "chat.completion", "created": 0, "model": body["model"],
                                    "choices": [{"index": 0, "message": message, "finish_reason": finish}],
                                    "usage": usage}).encode())  # fmt: skip

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None, length: int = -1) -> None:
        self._leave()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length < 0 else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing is printed."""


@contextlib.contextmanager
def chat_server(plan: Plan = lambda number: "", seed: int = 0, player: Any = None) -> Iterator[ChatServer]:
    """Serves in a thread while the block lasts."""
    chance = random.Random(seed)
    server = ChatServer(plan, player or (lambda messages: legal_player(messages, chance)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
