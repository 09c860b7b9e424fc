"""An identity provider that gives unsigned tokens for client credentials, over TLS. `token_server.py CERT KEY ID SECRET LIFE_S PORT`: prints its port
(0: any), counts what it has given in lines on standard output, and does as standard input says: `good`, `refuse`, `lie`, `slow`, or `secret NEW`.
"""

import base64
import json
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote

cert, key, client_id, secret, life, port = sys.argv[1:]
state = {"mode": "good", "secret": secret}


def encoded(part: dict) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


def token() -> str:
    now = int(time.time())
    # `expires_in` must not say more than the token.
    claims = {"sub": "forebay", "iat": now, "exp": now + int(life) + 1}
    return f"{encoded({'alg': 'none'})}.{encoded(claims)}."


class Provider(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        kind, pair = self.headers["Authorization"].split(" ")
        given = [unquote(part) for part in base64.b64decode(pair).decode().split(":")]
        assert kind == "Basic" and self.path == "/token" and form["grant_type"] == ["client_credentials"]
        if state["mode"] == "slow":
            time.sleep(60)
        if state["mode"] == "lie":
            self.say(200, {"access_token": f"not a token {given[1]}", "token_type": given[1]})
        elif state["mode"] == "refuse" or given != [client_id, state["secret"]]:
            self.say(401, {"error": "invalid_client", "error_description": given[1]})
        else:
            self.say(200, {"access_token": token(), "token_type": "Bearer", "expires_in": int(life), "scope": form["scope"][0]})
            print("gave", flush=True)

    def say(self, status: int, what: dict) -> None:
        body = json.dumps(what).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args) -> None:
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(port)), Provider)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(cert, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_address[1], flush=True)
for line in sys.stdin:
    word, *more = line.split()
    if word == "secret":
        state["secret"] = more[0]
    else:
        state["mode"] = word
