#!/usr/bin/env python3
"""Checks the source tree against the rules of the house.

usage: tidy.py <root> <rule>            one of the rules of rules.py
       tidy.py <root> headers [FLAG...] every torch-free header compiles alone; FLAGs go to the compiler ($CXX)
       tidy.py <root> format            clang-format 14 would change nothing

Prints one line a finding. Exit status 1: there are findings; 77: cannot be checked here, the reason is printed.
"""
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys

import rules

SKIPPED = 77
WARNINGS = ["-Wall", "-Wextra", "-Wno-missing-field-initializers", "-Werror"]  # as in cmake/DeepScaleTargets.cmake
WINDOWS_COMPILER = "x86_64-w64-mingw32-g++-posix"
FORMAT_VERSION = "14"


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(SKIPPED)


def compile_alone(compiler, root, header, flags):
    """Returns what the compiler says about a file that only includes this header."""
    source = f'#include "{header}"\n'
    command = [compiler, "-std=c++20", "-fsyntax-only", *WARNINGS, "-I", root, *flags, "-x", "c++", "-"]
    done = subprocess.run(command, input=source, capture_output=True, text=True, timeout=120)
    return f"{header} does not compile alone:\n{done.stderr}" if done.returncode else ""


def headers(tree, flags):
    """A header with a .cc file of the same name is left out: rule own_header and the build prove it already."""
    compiler = os.environ.get("CXX", "g++")
    jobs = []
    with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
        for header in tree.headers():
            if header[:-len(".h")] + ".cc" in tree.files:
                continue
            if header.endswith("_windows.h"):
                if shutil.which(WINDOWS_COMPILER):
                    jobs.append(pool.submit(compile_alone, WINDOWS_COMPILER, tree.root, header, []))
            elif not rules.depends_on_torch(tree, header):
                jobs.append(pool.submit(compile_alone, compiler, tree.root, header, flags))
    return [job.result() for job in jobs if job.result()]


def formatted(tree):
    program = shutil.which(f"clang-format-{FORMAT_VERSION}") or shutil.which("clang-format")
    if not program:
        skip("clang-format is not installed")
    version = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
    if not re.search(rf"version {FORMAT_VERSION}\.", version):
        skip(f"{version.strip()} formats differently from version {FORMAT_VERSION}")
    done = subprocess.run([program, "--dry-run", "-Werror", *tree.code()], cwd=tree.root, capture_output=True, text=True)
    return re.findall(r"^\S+: error: .*$", done.stderr, re.M) or ([done.stderr] if done.returncode else [])


def main(arguments):
    if len(arguments) < 2:
        sys.exit(__doc__)
    tree = rules.Tree(os.path.abspath(arguments[0]))
    check = arguments[1]
    if check == "headers":
        findings = headers(tree, arguments[2:])
    elif check == "format":
        findings = formatted(tree)
    elif check in rules.RULES:
        findings = list(rules.RULES[check](tree))
    else:
        sys.exit(f"unknown rule {check}; known: {', '.join(rules.RULES)}, headers, format")
    print("\n".join(findings))
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
