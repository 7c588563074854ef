"""A real MCP client, with the official SDK doing the OAuth: discovery, registration, PKCE, token.

It prints each HTTP exchange as one line (secrets masked) and, last, one line of JSON with the result.
The exit status is 0 when all went well, 1 when the server or the flow said no, 2 for wrong usage.

    client.py walk                                     every step up to a tool call
    client.py call create_note '{"title":"a","body":"b"}' --scope notes:read
    client.py outlive                                  a call before and one after the access token expires
    client.py loop --tool list_notes --seconds 20      a tight loop: counts, errors, latencies
    client.py visits --until FILE                      sessions one after the other until FILE exists
    client.py token --out token.json                   tokens for other tests, mode 0600

The authorization request is followed without a browser: the server has to approve it by itself, as
`login.developmentAutoApprove` does. With --client-id the client uses the client_credentials grant.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import re
import statistics
import sys
import time
from urllib.parse import parse_qs, parse_qsl, urlencode, urljoin, urlsplit

import httpx2
from mcp import ClientSession
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientMetadata

CALLBACK = "http://localhost:8765/callback"  # nothing listens: the redirect is read, not followed
SECRET_PARAMETERS = {"code", "state", "code_challenge", "code_verifier", "client_secret", "token"}
TOKEN = re.compile(r"\b(m[art][tc]_)\w+")


class Refused(Exception):
    """The server's answer, when it is not what the flow needs."""


class Memory:
    """The SDK's token storage, for this run only."""

    def __init__(self):
        self.tokens = None
        self.client = None

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return self.client

    async def set_client_info(self, client):
        self.client = client


class Transcript:
    """Prints exchanges as they happen, and remembers their statuses."""

    def __init__(self, quiet=False):
        self.quiet = quiet
        self.statuses = []
        self.challenges = []

    def say(self, line):
        if not self.quiet:
            print(line, flush=True)

    async def response(self, response):
        request = response.request
        self.statuses.append(response.status_code)
        self.say(f"{request.method:6} {masked_url(str(request.url))}{describe_body(request)}")
        self.say(f"       {response.status_code}{describe_headers(response.headers)}")
        if challenge := response.headers.get("www-authenticate"):
            self.challenges.append(challenge)


def masked_url(url):
    parts = urlsplit(url)
    query = "&".join(
        f"{name}={'***' if name in SECRET_PARAMETERS else value}"
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
    )
    return TOKEN.sub(r"\1***", parts._replace(query=query).geturl())


def describe_body(request):
    """What a request is about: the JSON-RPC method, or the names and harmless values of a form."""
    try:
        body = request.content.decode()
    except (httpx2.RequestNotRead, UnicodeDecodeError):
        return ""
    if body.startswith("{"):
        message = json.loads(body)
        method = message.get("method", "registration" if "redirect_uris" in message else "")
        tool = (message.get("params") or {}).get("name", "") if method == "tools/call" else ""
        return f"  ({method}{' ' if tool else ''}{tool})" if method else ""
    form = parse_qs(body)
    if not form:
        return ""
    shown = [f"{name}={form[name][0]}" for name in ("grant_type", "resource", "scope") if name in form]
    hidden = [f"{name}=***" for name in form if name in SECRET_PARAMETERS]
    return f"  ({' '.join(shown + hidden)})"


def describe_headers(headers):
    named = [("www-authenticate", "challenge"), ("location", "to"), ("retry-after", "retry after")]
    shown = [f"{label} {headers[name]}" for name, label in named if name in headers]
    return "".join(f"  {masked_url(text) if text.startswith('to ') else text}" for text in shown)


class Browser:
    """Stands for the user's browser: asks for the authorization page, and reads the redirect."""

    def __init__(self, transcript, scope):
        self.transcript = transcript
        self.scope = scope
        self.answer = None

    async def open(self, url):
        if self.scope is not None:
            # The SDK asks for what the challenge names; this user wants to give less.
            parts = urlsplit(url)
            query = dict(parse_qsl(parts.query)) | {"scope": self.scope}
            url = parts._replace(query=urlencode(query)).geturl()
        hooks = {"response": [self.transcript.response]}
        async with httpx2.AsyncClient(event_hooks=hooks) as http:
            for _ in range(5):
                response = await http.get(url)
                location = response.headers.get("location")
                if location is None:
                    raise Refused(
                        f"the authorization endpoint answered {response.status_code} without a redirect "
                        f"(auto-approval is needed): {text_of(response)}"
                    )
                url = urljoin(url, location)
                if url.startswith(CALLBACK):
                    self.answer = dict(parse_qsl(urlsplit(url).query))
                    return
        raise Refused("the authorization endpoint redirects without end")

    async def callback(self):
        if "error" in self.answer:
            description = self.answer.get("error_description", "")
            raise Refused(f"authorization refused: {self.answer['error']}: {description}")
        return AuthorizationCodeResult(
            code=self.answer["code"], state=self.answer.get("state"), iss=self.answer.get("iss")
        )


def text_of(response):
    return re.sub(r"<[^>]*>|\s+", " ", response.text)[:300].strip()


def provider(options, transcript, storage):
    if options.client_id:
        with open(options.client_secret_file, encoding="utf-8") as file:
            secret = file.read().strip()
        return ClientCredentialsOAuthProvider(
            options.url,
            storage,
            options.client_id,
            secret,
            scope=options.scope,
            issuer=options.issuer,
        )
    browser = Browser(transcript, options.scope)
    metadata = OAuthClientMetadata(
        client_name="mcp-auth-operator e2e client",
        redirect_uris=[CALLBACK],
        grant_types=["authorization_code", "refresh_token"],
        scope=options.scope,
    )
    return OAuthClientProvider(options.url, metadata, storage, browser.open, browser.callback)


@contextlib.asynccontextmanager
async def connected(options, transcript, storage):
    """A session that is initialized: the first request brings the SDK through OAuth."""
    auth = provider(options, transcript, storage)
    hooks = {"response": [transcript.response]}
    timeout = httpx2.Timeout(30, read=300)
    limits = httpx2.Limits(max_connections=None)
    async with (
        httpx2.AsyncClient(auth=auth, event_hooks=hooks, timeout=timeout, limits=limits) as http,
        streamable_http_client(options.url, http_client=http) as streams,
        ClientSession(streams[0], streams[1]) as session,
    ):
        initialized = await session.initialize()
        if storage.tokens is None:
            raise Refused(f"{options.url} asks for no token: it is not protected")
        server = initialized.server_info
        transcript.say(f"       initialized: {server.name} {server.version}, {initialized.protocol_version}")
        yield session


def text_result(result):
    return [block.text for block in result.content if block.type == "text"]


async def call(session, tool, arguments):
    result = await session.call_tool(tool, arguments)
    if result.is_error:
        raise Refused(f"{tool}: {' '.join(text_result(result))}")
    return result.structured_content or text_result(result)


async def walk(session, options, transcript, storage):
    tools = [tool.name for tool in (await session.list_tools()).tools]
    transcript.say(f"       tools: {', '.join(tools)}")
    outcome = {"tools": tools, "scope": storage.tokens.scope}
    if "create_note" in tools:
        note = await call(session, "create_note", {"title": "milk", "body": "two litres"})
        read = await call(session, "read_note", {"id": note["id"]})
        transcript.say(f"       read back: {json.dumps(read)}")
        await call(session, "delete_note", {"id": note["id"]})
        outcome["note"] = read
    return outcome


async def single(session, options, transcript, storage):
    return {"result": await call(session, options.tool, json.loads(options.arguments))}


async def outlive(session, options, transcript, storage):
    """A call before and one after the access token expires, so that the SDK has to refresh."""
    first = storage.tokens
    await call(session, options.tool, {})
    await asyncio.sleep(first.expires_in + 1)
    await call(session, options.tool, {})
    return {"refreshed": storage.tokens.refresh_token != first.refresh_token}


async def loop(session, options, transcript, storage):
    """Workers that call again as soon as they are answered. The rate is that of the second half."""
    transcript.quiet = True
    arguments = json.loads(options.arguments)
    latencies, ends, errors = [], [], []
    begin = time.monotonic()

    async def worker():
        while time.monotonic() - begin < options.seconds:
            start = time.monotonic()
            try:
                await call(session, options.tool, arguments)
            except Exception as error:  # counted: this is what the loop looks for
                errors.append(str(error))
            latencies.append(time.monotonic() - start)
            ends.append(time.monotonic() - begin)

    await asyncio.gather(*(worker() for _ in range(options.workers)))
    half = options.seconds / 2
    late = [end for end in ends if half <= end < options.seconds]
    ordered = sorted(latencies)
    return {
        "calls": len(latencies),
        "errors": len(errors),
        "error": errors[0] if errors else None,
        "callsPerSecond": round(len(late) / half, 3),
        "latencySeconds": {
            "p50": round(statistics.median(ordered), 4),
            "p99": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 4),
            "max": round(ordered[-1], 4),
        },
    }


async def visits(session, options, transcript, storage):
    """Sessions one after the other, with a call in each. One that was in the memory of a pod ends with it (404)."""
    transcript.quiet = True
    calls, ended, errors = 0, 0, []
    while not os.path.exists(options.until):
        try:
            async with connected(options, transcript, storage) as visit:
                await call(visit, options.tool, {})
            calls += 1
        except Exception as error:  # counted: this is what the visits look for
            reasons = "; ".join(f"{type(leaf).__name__}: {leaf}" for leaf in leaves(error))
            if "Session terminated" in reasons:
                ended += 1
            else:
                errors.append(reasons)
    return {"calls": calls, "ended": ended, "errors": len(errors), "error": errors[0] if errors else None}


async def token(session, options, transcript, storage):
    client = storage.client
    tokens = storage.tokens
    content = {
        "accessToken": tokens.access_token,
        "refreshToken": tokens.refresh_token,
        "expiresIn": tokens.expires_in,
        "scope": tokens.scope,
        "clientId": options.client_id or client.client_id,
        "clientSecret": client.client_secret if client else None,
    }
    descriptor = os.open(options.out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file)
    return {"out": options.out, "scope": tokens.scope, "expiresIn": tokens.expires_in}


def leaves(error):
    """The errors in an exception group, which is how asynchronous code raises several at once."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves(inner)]
    return [error]


async def run(options):
    transcript = Transcript()
    storage = Memory()
    outcome = {"ok": False, "command": options.command}
    try:
        async with connected(options, transcript, storage) as session:
            outcome |= await options.run(session, options, transcript, storage)
        outcome["ok"] = not outcome.get("errors")
    except Exception as error:  # whatever it is, the last line tells
        errors = [f"{type(leaf).__name__}: {str(leaf) or options.url}" for leaf in leaves(error)]
        outcome |= {"error": TOKEN.sub(r"\1***", "; ".join(errors)), "challenges": transcript.challenges}
    outcome["refusals"] = [status for status in transcript.statuses if status in (403, 429) or status >= 500]
    print(json.dumps(outcome), flush=True)
    return 0 if outcome["ok"] else 1


def options():
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--url", default="http://localhost:9001/mcp", help="the MCP server (%(default)s)")
    common.add_argument("--scope", help="ask for these scopes instead of what the server's challenge names")
    common.add_argument("--client-id", help="use the client_credentials grant as this client")
    common.add_argument("--client-secret-file", help="file with its secret", default="/dev/stdin")
    common.add_argument("--issuer", help="its authorization server", default="http://localhost:9000")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name, function):
        sub = commands.add_parser(name, parents=[common])
        sub.set_defaults(run=function)
        return sub

    command("walk", walk)
    sub = command("call", single)
    sub.add_argument("tool")
    sub.add_argument("arguments", nargs="?", default="{}", help="JSON")
    sub = command("outlive", outlive)
    sub.add_argument("--tool", default="list_notes")
    sub = command("loop", loop)
    sub.add_argument("--tool", default="list_notes")
    sub.add_argument("--arguments", default="{}", help="JSON")
    sub.add_argument("--seconds", type=float, default=20)
    sub.add_argument("--workers", type=int, default=1)
    sub = command("visits", visits)
    sub.add_argument("--tool", default="list_notes")
    sub.add_argument("--until", required=True, help="file to wait for")
    sub = command("token", token)
    sub.add_argument("--out", required=True, help="file to write, mode 0600")
    return parser.parse_args()


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)  # the SDK logs what the last line says anyway, with a traceback
    sys.exit(asyncio.run(run(options())))
