"""Holds a running service to the description of its own admin API: the description is valid OpenAPI, every GET answers as described, and what is not
in it is refused with a problem document. `openapi.py http://127.0.0.1:8080 [TOKEN]`
"""

import json
import re
import sys
import urllib.error
import urllib.parse
import urllib.request

from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

# Values of a parameter that no operation takes, by its type.
WRONG = {"integer": ["x", "-1", "1.5", ""], "boolean": ["maybe"], "string": []}


class Api:
    def __init__(self, base: str, token: str | None):
        self.base, self.token, self.faults, self.checks = base.rstrip("/"), token, [], 0
        status, kind, body = self.ask("GET", "/api/v1/openapi.json")
        assert status == 200 and kind == "application/json", (status, kind)
        self.description = json.loads(body)

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, str, bytes]:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        request = urllib.request.Request(self.base + path, method=method, data=body, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.headers.get_content_type(), answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers.get_content_type(), error.read()

    def check(self, method: str, path: str, operation: dict | None, allowed: set[int], body: bytes | None = None):
        """The answer has one of these statuses, and is what the description says of it."""
        self.checks += 1
        status, kind, said = self.ask(method, path, body)
        if status not in allowed:
            return self.faults.append(f"{method} {path}: status {status}, not one of {sorted(allowed)}: {said[:200]!r}")
        described = operation["responses"].get(str(status)) if operation else None
        if operation and described is None:
            return self.faults.append(f"{method} {path}: status {status} is not described")
        if status >= 400 and kind != "application/problem+json":
            return self.faults.append(f"{method} {path}: {status} as {kind}, not as a problem document")
        if status >= 400:
            schema = {"$ref": "#/components/schemas/Problem"}
        else:
            content = described.get("content", {})
            if content and kind not in content:
                return self.faults.append(f"{method} {path}: {kind}, described as {list(content)}")
            schema = content.get(kind, {}).get("schema", {})
        if said:
            wrong = sorted(Draft202012Validator(schema | {"components": self.description["components"]}).iter_errors(json.loads(said)), key=str)
            self.faults += [f"{method} {path}: {error.json_path}: {error.message[:200]}" for error in wrong[:5]]


def named(path: str) -> str:
    """A path with a name that does not exist."""
    return re.sub(r"\{[^}]*\}", "no-such-thing", path)


def run(api: Api) -> None:
    validate(api.description)
    names = {
        "/api/v1/sinks/{name}": "sinks",
        "/api/v1/sources/{name}": "sources",
        "/api/v1/bridges/{name}": "bridges",
        "/api/v1/rules/{name}": "rules",
        "/api/v1/clusters/{name}": "clusters",
        "/api/v1/clients/{client_id}": "clients",
        "/api/v1/retained/{topic}": "retained",
        "/api/v1/sinks/{name}/partitions": "sinks",
        "/api/v1/dead-letters/{name}": "sinks",
        "/api/v1/clusters/{name}/dead-letters/{topic}": None,  # those of the configuration are tested where they are sent
        "/api/v1/clusters/{name}/dead-letters/{topic}/{partition}/{offset}": None,
        "/api/v1/auth/{name}/users": None,
        "/api/v1/auth/{name}/permissions": None,
        "/api/v1/sql/past/{id}": None,  # runs are known to those that began them
        "/api/v1/traces/{id}": None,  # there is none
    }
    for path, item in api.description["paths"].items():
        for method in ("get", "post", "put", "delete", "patch"):
            known = item.get(method)
            if known is None:
                api.check(method.upper(), named(path), None, {405}, b"{}" if method in ("post", "put", "patch") else None)
                continue
            if path.endswith(("/stream", "/live")):
                continue  # does not end
            if path.endswith("/session") and method != "get":
                api.check(method.upper(), path, known, {200, 204, 401})
                continue
            if method == "get":
                if "{" in path:
                    collection = names[path]
                    rows = json.loads(api.ask("GET", f"/api/v1/{collection}")[2])[collection] if collection else []
                    for row in rows:
                        one = urllib.parse.quote(row.get("client_id") or row.get("name") or row["topic"], safe="")
                        api.check("GET", re.sub(r"\{[^}]*\}", lambda _: one, path), known, {200})
                    api.check("GET", re.sub(r"\{[^}]*\}", "no%2Fsuch%20thing", path), known, {404})
                    continue
                required = [one["name"] for one in known.get("parameters", []) if one.get("required")]
                # This service has no `[broker]`.
                there = {404} if path.startswith("/api/v1/broker/") else {200}
                api.check("GET", path + "".join(f"?{name}=a" for name in required), known, there)
                if required:
                    api.check("GET", path, known, {400})
                for parameter in known.get("parameters", []):
                    kinds = parameter["schema"].get("type", "string")
                    kind = next(k for k in ([kinds] if isinstance(kinds, str) else kinds) if k != "null")
                    for value in WRONG[kind]:
                        api.check("GET", f"{path}?{parameter['name']}={value}", known, {400})
                if known.get("parameters"):
                    api.check("GET", f"{path}?no_such_parameter=1", known, {400})
            elif "requestBody" not in known and "{" not in path:
                api.check(method.upper(), f"{path}?dry_run=true", known, {200, 409})
                api.check(method.upper(), f"{path}?no_such_parameter=1", known, {400})
            elif "{" in path:
                one = named(path)
                if "requestBody" in known:
                    api.check(method.upper(), one, known, {400}, b"\xff")
                    api.check(method.upper(), one, known, {400, 404, 422}, b"{}")
                else:
                    api.check(method.upper(), one, known, {404})
            else:
                # This is a text with mistakes, which the answer lists.
                is_check = method == "post" and "application/toml" in known["requestBody"]["content"]
                api.check(method.upper(), path, known, {200} if is_check else {400}, b"{}")
                api.check(method.upper(), path, known, {400}, b"\xff")
    for path in ("/api/v1/nothing", "/nothing", "/api/v1/clients/a/b/c", "/api/v2/sinks"):
        api.check("GET", path, None, {404})
    api.check("POST", "/metrics", None, {405}, b"")


if __name__ == "__main__":
    tried = Api(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
    run(tried)
    for fault in tried.faults:
        print(fault)
    print(f"{tried.checks} answers checked, {len(tried.faults)} not as described")
    sys.exit(1 if tried.faults or tried.checks < 40 else 0)
