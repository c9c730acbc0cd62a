"""A JSON-RPC node that says what a test wants, for what no real node can be made to do."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[str, list[Any]], Any]


@contextmanager
def fake_node(answer: Answer, batches: str = "yes", posts: list[Any] | None = None) -> Iterator[str]:
    """Serve `answer(method, params)`; an exception that it returns is a refusal, "silence" ends the connection.

    `batches`: "yes"; refused with an "error" or a "404"; or "half", answered without the last request.
    """

    def answer_one(request: dict[str, Any]) -> dict[str, Any]:
        result = answer(request["method"], request["params"])
        if isinstance(result, Exception):
            return {"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32000, "message": str(result)}}
        return {"jsonrpc": "2.0", "id": request["id"], "result": result}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16  # head and body in one packet

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if posts is not None:
                posts.append(request)
            if not isinstance(request, list):
                self._give(answer_one(request))
            elif batches == "error":
                self._give({"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "no batches"}})
            elif batches == "404":
                self._give("not found", 404)
            else:
                answers = [answer_one(each) for each in request]
                self._give(answers[:-1] if batches == "half" else answers[::-1])

        def _give(self, content: Any, status: int = 200) -> None:
            body = content.encode() if isinstance(content, str) else json.dumps(content).encode()
            if b'"silence"' in body:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    node = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    node.daemon_threads = True
    threading.Thread(target=node.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{node.server_address[1]}"
    finally:
        node.shutdown()
        node.server_close()
