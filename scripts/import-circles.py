#!/usr/bin/env python3
"""Refuses circles of imports between the modules of a crate.

A module is a file, and a folder is one module with all below it. At each level the modules that are
siblings form a graph: an edge from A to B is a `use` or a path (`crate::…`, `super::…`, `self::…`) anywhere
in A that leads anywhere into B. Each of these graphs must be free of circles, so that a module can be
understood, tested and moved with what is below it alone.

Between a module and its own children both directions are allowed: the parent assembles its children, and a
child may use the types that its folder shares. A name that a parent only imports or re-exports counts as
what it stands for, so siblings cannot meet through their parent.

Code under `#[cfg(test)]` and the files in tests/ do not count. Names that a glob import of a parent brings
in are not followed.

import-circles.py [ROOT.rs...]: the crates with these roots; without, all of the workspace.
"""

import json
import re
import subprocess
import sys
from collections import defaultdict, deque
from pathlib import Path

NOT_CODE = re.compile(
    r"""//[^\n]* | /\*.*?\*/ | b?r(\#*)".*?"\1 | b?"(?:\\.|[^"\\])*" | b?'(?:\\[^\n]+?|[^'\\\n])'""", re.S | re.X
)
TOKEN = re.compile(r"[A-Za-z_]\w*|::|\S")
TEST_ONLY = re.compile(r"#\[cfg\((all\()?test\b")
SHOWN = 3  # lines of an import


def code(text):
    """The text without comments, literals and code for tests; each line stays where it is."""

    def blank(start, end):
        return re.sub(r"[^\n]", " ", text[start:end])

    text = NOT_CODE.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), text)
    while found := TEST_ONLY.search(text):
        depth, end = 0, found.start()
        # The attributes, then the item: it ends at a semicolon or with its braces.
        for end in range(found.start(), len(text)):
            c = text[end]
            depth += (c in "([{") - (c in ")]}")
            if depth <= 0 and (c in ";}" or c == "," and depth == 0):
                break
        # A field or variant may be the last of its braces, which are not its own.
        stop = end if depth < 0 else end + 1
        text = text[: found.start()] + blank(found.start(), stop) + text[stop:]
    return text


class Crate:
    """The modules of a crate, as tuples of names, and the paths that each names."""

    def __init__(self, root):
        self.root = Path(root)
        self.modules = {()}
        self.paths = []  # (module, path, file, line)
        self.imports = defaultdict(dict)  # module -> name -> path
        self.read(self.root, (), self.root.parent)

    def read(self, file, module, folder):
        """Reads a file; those of its child modules are in `folder`."""
        source = code(file.read_text())
        tokens = [(m[0], source.count("\n", 0, m.start()) + 1) for m in TOKEN.finditer(source)]
        words = [word for word, _ in tokens]
        inline, at, i = [], module, 0  # inline: what each open brace belongs to
        while i < len(words):
            word, line = tokens[i]
            if word == "mod" and words[i + 2 : i + 3] == [";"]:
                name, below = words[i + 1], folder.joinpath(*at[len(module) :])
                child = next((f for f in (below / f"{name}.rs", below / name / "mod.rs") if f.is_file()), None)
                if child:
                    self.modules.add(at + (name,))
                    self.read(child, at + (name,), below / name)
            elif word == "mod" and words[i + 2 : i + 3] == ["{"]:
                inline.append(at)
                at += (words[i + 1],)
                self.modules.add(at)
                i += 2
            elif word == "{":
                inline.append(at)
            elif word == "}":
                at = inline.pop() if inline else at
            elif word == "use" and i + 1 < len(words) and words[i - 1] != "::":
                i = self.use_tree(tokens, i + 1, at, (), file)
            elif word in ("crate", "super", "self") and words[i + 1 : i + 2] == ["::"] and words[i - 1] not in ("::", "in", "$"):
                path = [word]
                while words[i + 1 : i + 2] == ["::"] and re.match(r"\w", words[i + 2]):
                    path.append(words[i + 2])
                    i += 2
                self.paths.append((at, tuple(path), file, line))
            i += 1

    def use_tree(self, tokens, i, at, prefix, file):
        """Reads `a::{b, c as d}`; returns the place of the token that ends it."""
        path = prefix
        while i < len(tokens):
            word, line = tokens[i]
            if word == "{":
                while tokens[i][0] != "}":
                    i = self.use_tree(tokens, i + 1, at, path, file)
                return i + 1
            if word in ("}", ",", ";", "as"):
                break
            if word != "::":
                path += (word,)
            i += 1
        if path != prefix:
            line = tokens[i - 1][1]
            self.paths.append((at, path, file, line))
            name = path[-1]
            if word == "as":
                name = tokens[i + 1][0]
                i += 2
            elif name == "self":
                name = path[-2]
            self.imports[at][name] = path
        return i

    def target(self, at, path, seen=frozenset()):
        """The module that a path named in `at` leads into; None if it leads out of the crate."""
        if path[0] == "crate":
            module = ()
        elif path[0] in ("self", "super"):
            module = at
        elif at + path[:1] in self.modules:
            module, path = at, ("self",) + path
        else:
            return None
        for n, name in enumerate(path):
            if name == "super":
                module = module[:-1]
            elif name in ("self", "crate"):
                continue
            elif module + (name,) in self.modules:
                module += (name,)
            elif name in self.imports[module] and (module, name) not in seen:
                # Where it leads out of the crate, the name is the module's own.
                there = self.target(module, self.imports[module][name] + path[n + 1 :], seen | {(module, name)})
                return module if there is None else there
            else:
                break
        return module

    def edges(self):
        """For each level: A -> B -> the lines in A that lead into B."""
        levels = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
        for at, path, file, line in self.paths:
            to = self.target(at, path)
            if to is None:
                continue
            common = next((n for n, (a, b) in enumerate(zip(at, to)) if a != b), None)
            if common is not None:  # else one is above the other
                lines = levels[at[:common]][at[common]][to[common]]
                lines.append(f"{file}:{line}: {'::'.join(path)}")
        return levels

    def circles(self):
        """The shortest circle through each module that is in one: [(level, [module...], edges)]."""
        found = {}
        for level, graph in sorted(self.edges().items()):
            for start in sorted(graph):
                if circle := shortest(graph, start):
                    found.setdefault((level, frozenset(circle)), (level, circle, graph))
        return list(found.values())


def shortest(graph, start):
    """The shortest way from `start` back to it; [] if there is none."""
    came, queue = {}, deque([start])
    while queue:
        at = queue.popleft()
        for to in sorted(graph.get(at, ())):
            if to == start:
                way = [at]
                while way[-1] != start:
                    way.append(came[way[-1]])
                return way[::-1]
            if to not in came:
                came[to] = at
                queue.append(to)
    return []


def workspace():
    """The roots of all programs and libraries."""
    command = ["cargo", "metadata", "--no-deps", "--offline", "--format-version", "1"]
    packages = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["packages"]
    targets = [t for p in packages for t in p["targets"] if {"lib", "bin"} & set(t["kind"])]
    return [Path(t["src_path"]).relative_to(Path.cwd()) for t in targets]


def main(roots):
    roots = roots or workspace()
    count = 0
    for root in roots:
        for level, circle, graph in Crate(root).circles():
            count += 1
            names = ["::".join(("crate",) + level + (name,)) for name in circle]
            print(f"\n{root}: circle of imports: {' -> '.join(names + names[:1])}")
            for a, b in zip(circle, circle[1:] + circle[:1]):
                lines = graph[a][b]
                print(f"  {a} -> {b}")
                for line in lines[:SHOWN]:
                    print(f"    {line}")
                if len(lines) > SHOWN:
                    print(f"    and {len(lines) - SHOWN} more")
    if count:
        print(f"\n{count} circles. Move what both sides need into a module below them, or pass it in.")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
