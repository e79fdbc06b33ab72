"""A web service, as a process. argv: port, log, behaviour.

plain, unavailable (503), refuse (401), poison (422 for a request with the part POISON), hang, trickle (a byte a second)
"""

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
            if behaviour == "trickle":
                for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" * 100:
                    self.wfile.write(bytes([byte]))
                    time.sleep(0.2)
            if behaviour == "unavailable":
                self.send_response(503)
            elif behaviour == "refuse" or self.headers["Authorization"] != "Bearer token":
                self.send_response(401)
            elif behaviour == "poison" and any(record["part"] == "POISON" for record in body["verdicts"]):
                self.send_response(422)
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
