"""A client that calls the application directly, and a supplier on the loopback interface."""

import io
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Client:
    def __init__(self, app):
        self._app = app

    def call(self, method, path, body=None):
        """Return the status code and the answer, decoded where it is JSON."""
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "CONTENT_LENGTH": str(len(raw)),
            "wsgi.input": io.BytesIO(raw),
        }
        seen = {}

        def start_response(status, headers):
            seen.update(status=int(status.split()[0]), headers=dict(headers))

        answer = b"".join(self._app(environ, start_response))
        if seen["headers"]["Content-Type"] == "application/json":
            return seen["status"], json.loads(answer)
        return seen["status"], answer.decode()


@contextmanager
def supplier(answers):
    """Serve ``answers``, path to (status, body); yield the address and the requests seen."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            length = int(self.headers.get("Content-Length") or 0)
            seen.append((self.command, self.path, self.rfile.read(length)))
            status, body = answers.get(self.path, (404, b""))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
