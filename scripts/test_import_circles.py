"""The cases of import-circles.py: python3 scripts/test_import_circles.py"""

import importlib.util
import tempfile
import unittest
from pathlib import Path

spec = importlib.util.spec_from_file_location("import_circles", Path(__file__).with_name("import-circles.py"))
import_circles = importlib.util.module_from_spec(spec)
spec.loader.exec_module(import_circles)


def circles(files):
    """The circles of a crate made of these files, each as "level: a b"."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            file = Path(folder, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        found = import_circles.Crate(Path(folder, "lib.rs")).circles()
        return ["::".join(level) + ": " + " ".join(circle) for level, circle, _ in found]


class Circles(unittest.TestCase):
    def pair(self, a, b, lib="mod a; mod b;"):
        return circles({"lib.rs": lib, "a.rs": a, "b.rs": b})

    def test_one_direction(self):
        self.assertEqual(self.pair("use crate::b::B;", "pub struct B;"), [])

    def test_two_files(self):
        self.assertEqual(self.pair("use crate::b::B;", "use super::a::A;"), [": a b"])

    def test_three_files(self):
        files = {"lib.rs": "mod a; mod b; mod c;", "a.rs": "use crate::b::B;", "b.rs": "use crate::c;", "c.rs": "use super::{a::A};"}
        self.assertEqual(circles(files), [": a b c"])

    def test_paths_without_use(self):
        self.assertEqual(self.pair("fn f() -> crate::b::B { super::b::B }", "type T = Vec<crate::a::A>;"), [": a b"])

    def test_trees_aliases_and_modules_themselves(self):
        self.assertEqual(self.pair("use crate::{x, b::{self, C as D}};", "use std::fmt; use crate::a as other;"), [": a b"])

    def test_a_folder_is_one_module(self):
        files = {
            "lib.rs": "mod a; mod b;",
            "a/mod.rs": "mod x; mod y;",
            "a/x.rs": "use crate::b::B;",
            "a/y.rs": "",
            "b.rs": "use crate::a::y::Y;",
        }
        self.assertEqual(circles(files), [": a b"])

    def test_inside_a_folder(self):
        files = {"lib.rs": "mod a;", "a.rs": "mod x; mod y;", "a/x.rs": "use super::y::Y;", "a/y.rs": "use crate::a::x::X;"}
        self.assertEqual(circles(files), ["a: x y"])

    def test_parent_and_child(self):
        files = {"lib.rs": "mod a;", "a.rs": "mod x; use x::X; use self::x::Y; struct A;", "a/x.rs": "use super::A; use crate::a::A as B;"}
        self.assertEqual(circles(files), [])

    def test_through_the_parent(self):
        lib = "mod a; mod b; pub use a::A; pub use b::B as C;"
        self.assertEqual(self.pair("use crate::C;", "use super::A;", lib), [": a b"])

    def test_what_the_parent_defines_or_takes_from_elsewhere(self):
        lib = "mod a; mod b; pub struct A; use std::fmt; use self::Own as Alias; pub struct Own;"
        self.assertEqual(self.pair("use crate::{A, fmt, Alias};", "use crate::{A, fmt, Alias};", lib), [])

    def test_imports_that_name_each_other_end(self):
        lib = "mod a; mod b; use self::X as Y; use self::Y as X;"
        self.assertEqual(self.pair("use crate::X;", "use crate::Y;", lib), [])

    def test_code_for_tests(self):
        test = "#[cfg(test)]\nmod tests { use crate::a::A; fn f() { if x { y } } }"
        self.assertEqual(self.pair("use crate::b::B;", test), [])
        self.assertEqual(self.pair("use crate::b::B;", "#[cfg(test)] use crate::a::A;"), [])
        self.assertEqual(self.pair("use crate::b::B;", "#[cfg(test)] #[derive(X)] fn f(a: [u8; 2]) -> crate::a::A {}"), [])
        self.assertEqual(self.pair("use crate::b::B;", "#[cfg(all(test, unix))] mod t { use crate::a::A; }"), [])
        self.assertEqual(self.pair("use crate::b::B;", "enum E { X, #[cfg(test)] Y(crate::a::A) }"), [])
        self.assertEqual(self.pair("use crate::b::B;", "#[cfg(test)] mod t {} use crate::a::A;"), [": a b"])
        self.assertEqual(self.pair("use crate::b::B;", "enum E { #[cfg(test)] Y } type T = crate::a::A;"), [": a b"])

    def test_files_for_tests(self):
        files = {"lib.rs": "mod a; mod b;", "a.rs": "use crate::b::B;", "b.rs": "#[cfg(test)]\nmod tests;", "b/tests.rs": "use crate::a::A;"}
        self.assertEqual(circles(files), [])

    def test_comments_and_literals(self):
        quiet = """// crate::a\n/* use crate::a; */ /// [`crate::a::A`]\nfn f() { g("crate::a::A \\" {", '"', r#"use crate::a;" "#, b'\\'', "x'"); }"""
        self.assertEqual(self.pair("use crate::b::B;", quiet), [])
        self.assertEqual(self.pair("use crate::b::B;", quiet + "fn g<'a>(x: &'a crate::a::A) {}"), [": a b"])

    def test_visibility(self):
        self.assertEqual(self.pair("use crate::b::B;", "pub(in crate::a) fn f() {} pub(super) fn g() {} pub(crate) use std::fmt;"), [])

    def test_inline_modules(self):
        self.assertEqual(self.pair("use crate::b::B;", "struct A; mod inner { use super::A; use super::super::a; }"), [": a b"])
        self.assertEqual(self.pair("use crate::b::B;", "mod inner { fn f() { if x { super::a() } } } mod a {}"), [])


if __name__ == "__main__":
    unittest.main()
