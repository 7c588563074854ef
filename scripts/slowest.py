#!/usr/bin/env python3
"""slowest.py COUNT REPORT.xml...: the slowest tests of nextest's reports."""

import sys
import xml.etree.ElementTree as ElementTree


def tests(report):
    for suite in ElementTree.parse(report).getroot().iter("testsuite"):
        for case in suite.iter("testcase"):
            yield float(case.get("time", 0)), suite.get("name"), case.get("name")


def main(count, reports):
    found = sorted((test for report in reports for test in tests(report)), reverse=True)
    for seconds, suite, name in found[: int(count)]:
        print(f"{seconds:8.1f} s  {suite} {name}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
