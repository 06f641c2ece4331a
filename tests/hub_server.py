"""A hub on this machine, for the tests: the requests by which huggingface_hub makes, fills and reads a repository."""

import base64
import hashlib
import json
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar


class Hub(BaseHTTPRequestHandler):
    """Keeps in memory what is pushed; `main` is the newest commit."""

    commits: ClassVar[list[dict[str, bytes]]] = []

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer: dict[str, Any] = {}
        if self.path.endswith("/repos/create"):
            answer = {"url": f"http://{self.headers['Host']}/owner/name"}
        elif "/preupload/" in self.path:
            files = json.loads(data)["files"]
            answer = {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]}
        elif "/commit/" in self.path:
            operations = [json.loads(line) for line in data.splitlines()]
            files = {
                o["value"]["path"]: base64.b64decode(o["value"]["content"]) for o in operations if o["key"] == "file"
            }
            self.commits.append(files)
            answer = {"commitUrl": f"http://{self.headers['Host']}/owner/name/commit/{_name(len(self.commits) - 1)}"}
            answer |= {"commitOid": _name(len(self.commits) - 1)}
        elif self.path.endswith("/validate-yaml"):
            answer = {"errors": [], "warnings": []}
        self._answer(json.dumps(answer).encode(), Content_Type="application/json")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = self.path.split("/")
        if self.path.startswith("/api/"):
            self._answer(json.dumps({"sha": _name(len(self.commits) - 1), "id": "owner/name", "siblings": []}).encode())
        elif parts[1:4] != ["owner", "name", "resolve"]:
            self._answer(b"", 404, X_Error_Code="RepoNotFound")
        else:
            names = {_name(number): number for number in range(len(self.commits))} | {"main": len(self.commits) - 1}
            commit = names.get(parts[4])
            if commit is None:
                self._answer(b"", 404, X_Error_Code="RevisionNotFound")
            elif parts[5] not in self.commits[commit]:
                self._answer(b"", 404, X_Error_Code="EntryNotFound", X_Repo_Commit=_name(commit))
            else:
                body = self.commits[commit][parts[5]]
                tag = hashlib.sha256(body).hexdigest()
                self._answer(body, ETag=f'"{tag}"', X_Repo_Commit=_name(commit))


def _name(number: int) -> str:
    return hashlib.sha1(str(number).encode()).hexdigest()
