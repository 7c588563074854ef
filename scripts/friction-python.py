#!/usr/bin/env python3
"""Writes docs/friction-python.csv: which calls the friction of the package mcp-authflow-resource lets pass.

    python3 -m venv venv && venv/bin/pip install mcp-authflow-resource==0.6.0 'mcp<2'
    venv/bin/python scripts/friction-python.py > docs/friction-python.csv

The package's own registry decides on each call, over simulated time: 1, 4, 16 and 64 workers of one client call one
tool, wait for the answer, which takes 20 ms, and call again. resource-proxy/src/limits/friction/picture.rs lets the same
workers call the proxy's friction.
"""

import heapq
import time
from importlib.metadata import version

from mcp_authflow_resource.friction import FrictionRegistry, ToolFrictionConfig

SECONDS = 180
BIN = 5
SERVICE = 0.02


async def passed(workers):
    """How many calls pass in each five seconds."""
    registry = FrictionRegistry(tool_configs={"read_note": ToolFrictionConfig()})
    bins = [0] * (SECONDS // BIN)
    calls = [(SERVICE * worker / workers, worker) for worker in range(workers)]
    while calls[0][0] < SECONDS:
        now, worker = heapq.heappop(calls)
        time.monotonic = lambda now=now: now
        result = await registry.check_and_record("agent", "read_note")
        bins[int(now / BIN)] += result.allowed
        heapq.heappush(calls, (now + SERVICE, worker))
    return bins


def main():
    print(f"# mcp-authflow-resource {version('mcp-authflow-resource')}: workers, then calls that passed in each {BIN} s")
    for workers in (1, 4, 16, 64):
        # Not asyncio.run: its loop reads the clock that is simulated.
        coroutine = passed(workers)
        try:
            while True:
                coroutine.send(None)
        except StopIteration as end:
            print(workers, *end.value, sep=",")


main()
