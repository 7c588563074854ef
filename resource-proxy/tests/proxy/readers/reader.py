"""Reads JSON-RPC bodies, one a line in hexadecimal, as Python's json does, and prints what a server would see of each."""

import json
import sys


def text(value):
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else None


def member(value, name):
    return value.get(name) if isinstance(value, dict) else None


def seen(message):
    params = member(message, "params")
    reference = member(params, "ref")
    names = [member(message, "method")] + [member(params, name) for name in ("name", "uri", "taskId")]
    return [text(name) for name in names + [member(reference, "name"), member(reference, "uri")]]


for line in sys.stdin:
    try:
        body = json.loads(bytes.fromhex(line))
        messages = body if isinstance(body, list) else [body]
        print(json.dumps([seen(message) for message in messages]))
    except (ValueError, RecursionError):
        print("null")
