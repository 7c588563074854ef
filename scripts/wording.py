#!/usr/bin/env python3
"""Checks the wording of texts that users read, and the names of items in the code.

RULES are the rules for texts, each for some kinds of them. SOURCES says where the texts are, besides the string
literals of the programs. No item may be named with a word of PRIVATE, which only this project would understand.
Code under `#[cfg(test)]` and files of tests do not count.

wording.py [FILE...]: these files; without, all that git tracks.
"""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

spec = importlib.util.spec_from_file_location("import_circles", Path(__file__).with_name("import-circles.py"))
import_circles = importlib.util.module_from_spec(spec)
spec.loader.exec_module(import_circles)

PROGRAM = re.compile(r"(authserver|cli|operator|resource-proxy|service|wire)/(api/)?src/.*\.rs$")
TESTS = re.compile(r"/tests/|tests\.rs$|simulation\.rs$|wire/src/patterns\.rs$")
SQL = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH|WHERE|AND|SET|FOR|CASE|\)) ?(?![a-z])")
NOT_SHOWN = re.compile(r"(reason = |\.expect\(\s*|Rule::new\()$")
ITEM = re.compile(r"\b(?:struct|enum|trait|type|fn|mod)\s+(\w+)")
PRIVATE = re.compile(r"(?<![a-z])(?i:lanes?|room|mirror(s|ed)?|flights|remnants?)(?![a-z])|^(Parts|Settings|Work|Found|Tie)$")

# Messages are fragments, or sentences for users of the pages; sentences and titles are always that.
RULES = [(tuple(kinds.split()), re.compile(pattern), advice) for kinds, pattern, advice in [
    ("message sentence title", r"(?i)\b(whatever|whoever|anybody|somebody|everybody|stranger)\b", "name what or who is meant"),
    ("message sentence title", r"(?i)(?<!no )\bsuch\b(?! as)", "write 'this', 'these' or the noun"),
    ("message sentence title text", r"(?i)(?<!you )\b(is|are) (away|gone)\b|\bheld back\b|\bholds? back\b", "say what happened: unavailable, deleted, delayed"),
    ("message sentence title text", r"(?i)\btak(e|es|en|ing) (up again|away)\b|\btaken up\b|\bof (its|their) own\b(?! [a-z])", "use the common word: reuse, remove, separate"),
    ("message sentence title text", r"(?i)\b(do|does|did|has) not answer(ed)?\b|\bno answer\b", "servers respond: 'does not respond', 'no response'"),
    ("message sentence title text", r"\bPostgres\b", "its name is PostgreSQL"),
    ("message sentence title text", r"(?i)\bcan not\b|\b(can|do|does|is|are|wo)n['’]t\b", "write 'cannot', 'does not'"),
    ("message sentence", r"(?i)operator's (own )?containers?\b", "the operator's pod has one, too: 'operator-managed container'"),
    ("message", r"^there (is|are) two\b|\bappears twice\b", "it could be three: 'more than one'"),
    ("message", r"^[a-z].*[a-z]\.$", "no full stop after a fragment"),
    ("message sentence title", r"(?<!\\)[a-z]  +[a-z](?!\w*=)", "two spaces"),
    ("sentence", r"^[a-z]|[^.]$", "write a sentence: capital, full stop"),
    ("title", r"^[a-z]|\.$|^How ", "write a title: capital, no full stop, no question"),
]]

# Files, what is read of them (the first group), and what kind of text that is.
SOURCES = [(re.compile(files), re.compile(pattern, re.M), kind) for files, pattern, kind in [
    (r"operator/api/src/(auth_server|oauth_client|pod|protected_server|refs|telemetry)\.rs$", r"((?:^ +/// [^\n]*\n)+)(?= *(?:#\[[^\n]*\n *)*pub \w+: )", "sentence"),
    (r"(authserver|operator|resource-proxy|cli)/src/(main|config|local/mod|render)\.rs$", r"^ *(/// .*)", "text"),
    (r"charts/.*/alerts\.yaml$", r"^ +(?:summary|description): (.*)", "sentence"),
    (r"charts/.*/dashboard\.json$", r'"title": "(.*)"', "title"),
    (r"charts/.*(schema\.json)$", r'"description": "(.*?)"', "sentence"),
    (r"Makefile$|\.mk$", r"^[a-z0-9-]+:.*?## (.*)", "title"),
    (r"\.sh$|^\.ci/", r"\b(?:say|die) \"(.*?)\"$", "message"),
    (r"\.html$|\.md$|values\.yaml$|NOTES\.txt$|^examples/.*\.yaml$|^compose\.yaml$", r"(.+)", "text"),
]]


def texts(name, content):
    """The texts of a file: (place, kind, text)."""
    for files, pattern, kind in SOURCES:
        if files.search(name):
            for found in pattern.finditer(content):
                text = " ".join(re.sub(r"^ *///", "", line).strip() for line in found[1].strip().split("\n"))
                yield found.start(1), kind, re.sub(r"`[^`]*`", "`…`", text.strip("\"'"))
    if PROGRAM.match(name) and not TESTS.search(name):
        code = import_circles.code(content)
        bare = import_circles.NOT_CODE.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), content)  # with tests
        for found in ITEM.finditer(code):
            yield found.start(), "name", found[1]
        for found in import_circles.NOT_CODE.finditer(content):
            literal, before = found[0], bare[: found.start()].rstrip()
            in_test = code[len(before) - 1 : len(before)].isspace()  # as the code before it
            if '"' in literal[:4] and " " in literal and not literal.startswith("/") and not in_test:
                text = re.sub(r"\\\n\s*", "", literal[literal.index('"') + 1 : literal.rindex('"')])
                if not SQL.match(text) and not NOT_SHOWN.search(before):
                    yield found.start(), "message", text


def problems(name, content):
    """What is wrong in a file, as lines."""
    for place, kind, text in texts(name, content):
        at = f"{name}:{content.count(chr(10), 0, place) + 1}"
        if kind == "name" and PRIVATE.search(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", text)):
            yield f"{at}: {text} is a word of this project only: use the field's, such as capacity, in flight, header match, orphan"
        for kinds, pattern, advice in RULES:
            if kind in kinds and (found := pattern.search(text)):
                yield f"{at}: {advice}: …{text[max(0, found.start() - 30) : found.end() + 30]}…"


def main(names):
    names = names or subprocess.run(["git", "ls-files"], check=True, stdout=subprocess.PIPE, text=True).stdout.split("\n")
    found = []
    for name in names:
        path = Path(name)
        if name and path.is_file() and not re.search(r"\.(snap|png)$|^fuzz/corpus", name):
            found += problems(name, path.read_text(errors="replace"))
    print("\n".join(found) if found else "wording: ok")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
