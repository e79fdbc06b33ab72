"""A web service, as a process. argv: port, log, behaviour (plain, refuse, hang)."""

from __future__ import annotations

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def main(port: int, log: Path, behaviour: str) -> None:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if behaviour == "hang":
                time.sleep(3600)
            if behaviour == "refuse" or self.headers["Authorization"] != "Bearer token":
                self.send_response(401)
            else:
                with log.open("a") as file:
                    for record in body["verdicts"]:
                        file.write(json.dumps(record) + "\n")
                self.send_response(204)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments) -> None:
            pass

    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
