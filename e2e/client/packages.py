"""Drives clients that people use, as their own packages, through sign-in, a call, and a call after the access token expired.

    packages.py mcp-remote URL --program node_modules/.bin/mcp-remote --seconds 5
    packages.py codex URL --program node_modules/.bin/codex --seconds 5

Both speak JSON-RPC on standard input and output. The authorization URL that a client would open in a browser is followed
here: the server has to approve it by itself, as `login.developmentAutoApprove` does. `--seconds` is how long an access token
lives. The exit status is 0 if both calls succeed.
"""

import argparse
import json
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

PATIENCE = 60  # seconds that an answer may take
TOOL = "list_notes"


class Peer:
    """A child process that speaks JSON-RPC, one message a line."""

    def __init__(self, command, env):
        self.process = subprocess.Popen(
            command, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.messages = queue.Queue()
        self.errors = queue.Queue()
        self.log = []
        self.last = 0
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._read_errors, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.messages.put(json.loads(line))

    def _read_errors(self):
        for line in self.process.stderr:
            self.log.append(line)
            self.errors.put(line)

    def send(self, message):
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def notify(self, method, params=None):
        self.send({"jsonrpc": "2.0", "method": method, **({"params": params} if params else {})})

    def ask(self, method, params):
        """The result of a request. Requests and notifications that come meanwhile are passed over."""
        self.last += 1
        self.send({"jsonrpc": "2.0", "id": self.last, "method": method, "params": params})
        message = self.wait(lambda message: message.get("id") == self.last and "method" not in message)
        if "error" in message:
            sys.exit(f"{method}: {message['error']}\n{''.join(self.log)}")
        return message["result"]

    def wait(self, is_it):
        end = time.monotonic() + PATIENCE
        while True:
            try:
                message = self.messages.get(timeout=max(0, end - time.monotonic()))
            except queue.Empty:
                sys.exit(f"no answer within {PATIENCE} s\n{''.join(self.log)}")
            if is_it(message):
                return message

    def printed(self, pattern):
        """The first match in what the program prints for people."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                line = self.errors.get(timeout=max(0, end - time.monotonic()))
            except queue.Empty:
                sys.exit(f"nothing like {pattern} within {PATIENCE} s\n{''.join(self.log)}")
            if found := re.search(pattern, line):
                return found.group(0)

    def end(self):
        self.process.terminate()
        self.process.wait()


def browse(url):
    """What a browser does with the authorization URL: it ends at the client's own callback.

    mcp-remote prints the URL before it listens there.
    """
    end = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
                print(f"signed in, {answer.status} from {answer.url.split('?')[0]}", flush=True)
                return
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ConnectionRefusedError) or time.monotonic() > end:
                raise
            time.sleep(0.2)


def mcp_remote(program, url, home, expired):
    env = {**os.environ, "MCP_REMOTE_CONFIG_DIR": home, "BROWSER": "true"}
    peer = Peer([program, url, "--transport", "http-only"], env)
    browse(peer.printed(r"http://\S*/authorize\?\S+"))
    peer.ask(
        "initialize",
        {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "packages", "version": "1"}},
    )
    peer.notify("notifications/initialized")
    for step in ("called", "called after the access token expired"):
        result = peer.ask("tools/call", {"name": TOOL, "arguments": {}})
        check(result, step)
        expired()
    peer.end()


def codex(program, url, home, expired):
    with open(os.path.join(home, "config.toml"), "w") as config:
        config.write(
            f'mcp_oauth_credentials_store = "file"\n[mcp_servers.notes]\nurl = "{url}"\n'
            '[features]\nrmcp_client = true\n'
        )
    peer = Peer([program, "app-server"], {**os.environ, "CODEX_HOME": home, "BROWSER": "true"})
    peer.ask("initialize", {"clientInfo": {"name": "packages", "title": "packages", "version": "1"}})
    peer.notify("initialized")
    browse(peer.ask("mcpServer/oauth/login", {"name": "notes"})["authorizationUrl"])
    done = peer.wait(lambda message: message.get("method") == "mcpServer/oauthLogin/completed")
    if not done["params"]["success"]:
        sys.exit(f"sign-in failed: {done['params']}")
    thread = peer.ask("thread/start", {"ephemeral": True, "cwd": home})["thread"]["id"]
    for step in ("called", "called after the access token expired"):
        params = {"threadId": thread, "server": "notes", "tool": TOOL, "arguments": {}}
        check(peer.ask("mcpServer/tool/call", params), step)
        expired()
    peer.end()


def check(result, step):
    if result.get("isError"):
        sys.exit(f"{step}: {result}")
    print(f"{step} {TOOL}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("client", choices=["mcp-remote", "codex"])
    parser.add_argument("url", help="of the protected MCP server")
    parser.add_argument("--program", required=True, help="the client's program")
    parser.add_argument("--seconds", type=float, required=True, help="how long an access token lives")
    arguments = parser.parse_args()
    run = {"mcp-remote": mcp_remote, "codex": codex}[arguments.client]
    with tempfile.TemporaryDirectory() as home:
        run(arguments.program, arguments.url, home, lambda: time.sleep(arguments.seconds + 1))


if __name__ == "__main__":
    main()
