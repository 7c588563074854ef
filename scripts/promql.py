#!/usr/bin/env python3
"""promql.py FILE [PAGE...]: parses every PromQL expression in rendered Kubernetes objects, of alerts and of dashboards,
and in the pages, where each line of a block ```promql is one."""

import json
import re
import sys

import promql_parser
import yaml


def expressions(value):
    if isinstance(value, dict):
        if isinstance(value.get("expr"), str):
            yield value["expr"]
        for child in value.values():
            yield from expressions(child)
    elif isinstance(value, list):
        for child in value:
            yield from expressions(child)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        objects = [item for item in yaml.safe_load_all(file) if item]
    for item in list(objects):
        if item["kind"] == "ConfigMap":
            objects += [json.loads(text) for name, text in item["data"].items() if name.endswith(".json")]
    found = list(expressions(objects))
    for page in sys.argv[2:]:
        with open(page, encoding="utf-8") as file:
            blocks = re.findall(r"^```promql\n(.*?)^```", file.read(), re.M | re.S)
        if not blocks:
            sys.exit(f"{page} has no expression")
        found += [line for block in blocks for line in block.splitlines()]
    if not found:
        sys.exit(f"{sys.argv[1]} has no expression")
    for expression in found:
        # Grafana puts these in.
        plain = re.sub(r"\$__rate_interval", "5m", expression)
        try:
            promql_parser.parse(plain)
        except ValueError as error:
            sys.exit(f"{expression}\n{error}")
    print(f"{len(found)} expressions")


main()
