#!/usr/bin/env python3
"""Every source that needs LibTorch compiles for Windows: with MinGW-w64 and the headers of the LibTorch that is here. Nothing is linked, since
LibTorch for Windows has the ABI of MSVC.

usage: windows_syntax.py <root> <folder to work in> <root of LibTorch> <folder with a third-party header>...

torch/torch.h is precompiled once. With ccache an unchanged file costs next to nothing. Prints what the compiler says. Exit status 1: a source
does not compile; 77: cannot be checked here, the reason is printed.
"""
import concurrent.futures
import os
import shutil
import subprocess
import sys

import rules

SKIPPED = 77
COMPILER = "x86_64-w64-mingw32-g++-posix"
FOLDERS = ("runtime/engine", "runtime/models", "examples")
# As in cmake/Dependencies.cmake for Windows. C10_USING_...: the header that LibTorch's own build generates is for another system.
DEFINITIONS = ["_WIN32_WINNT=0x0A00", "WIN32_LEAN_AND_MEAN", "NOMINMAX", "UNICODE", "_UNICODE", "FMT_HEADER_ONLY", "SPDLOG_FMT_EXTERNAL",
               "BOOST_PROCESS_USE_STD_FS", "BOOST_ASIO_NO_DEPRECATED", "BOOST_ASIO_HAS_PTHREADS=1", "NDEBUG",
               "C10_USING_CUSTOM_GENERATED_MACROS"]
THIRD_PARTY = ("boost", "nlohmann", "spdlog", "fmt", "cxxopts.hpp")


def sources(tree):
    """Those of Windows that need LibTorch; the CUDA half is for another compiler."""
    for path in tree.matching(".cc"):
        if rules.is_in(path, FOLDERS) and not path.endswith(("_linux.cc", "_cuda.cc")) and rules.depends_on_torch(tree, path):
            yield path


def link_third_party(folder, found):
    """A folder with only the headers that MinGW may see: those of this system must not be on its path."""
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    for name in THIRD_PARTY:
        place = next((place for place in found if os.path.exists(os.path.join(place, name))), None)
        if place:
            os.symlink(os.path.join(place, name), os.path.join(folder, name))
    with open(os.path.join(folder, "Windows.h"), "w", encoding="utf-8") as file:
        file.write("#pragma once\n#include <windows.h>\n")  # Boost spells it with a capital W


def compile_command(work, root, torch):
    command = [COMPILER, "-std=c++20", "-O0", "-fpch-preprocess", "-Wa,-mbig-obj", *(f"-D{name}" for name in DEFINITIONS), "-I", root]
    for folder in (os.path.join(work, "third_party"), f"{torch}/include", f"{torch}/include/torch/csrc/api/include"):
        command += ["-isystem", folder]
    return ["ccache", *command] if shutil.which("ccache") else command


def run(command, work):
    environment = {**os.environ, "CCACHE_SLOPPINESS": "pch_defines,time_macros,include_file_mtime,include_file_ctime"}
    done = subprocess.run(command, cwd=work, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return done.stderr if done.returncode else ""


def main(root, work, torch, third_party):
    if not shutil.which(COMPILER):
        print(f"skipped: {COMPILER} is not installed")
        return SKIPPED
    tree = rules.Tree(root)
    link_third_party(os.path.join(work, "third_party"), third_party)
    command = compile_command(work, root, torch)
    header = os.path.join(work, "torch.h")
    with open(header, "w", encoding="utf-8") as file:
        file.write("#include <torch/torch.h>\n")
    failure = run([*command, "-x", "c++-header", header, "-o", header + ".gch"], work)
    if failure:
        print(f"torch/torch.h does not compile for Windows:\n{failure}")
        return 1
    paths = list(sources(tree))

    def compile_one(path):  # ccache keeps no result that goes to /dev/null
        result = os.path.join(work, path.replace("/", "_") + ".o")
        said = run([*command, "-include", header, "-c", os.path.join(root, path), "-o", result], work)
        if os.path.exists(result):
            os.remove(result)
        return said

    with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
        failures = list(pool.map(compile_one, paths))
    for path, failure in zip(paths, failures):
        if failure:
            print(f"{path} does not compile for Windows:\n{failure}")
    os.remove(header + ".gch")  # half a gigabyte
    print(f"{len(paths)} sources, {sum(map(bool, failures))} do not compile")
    return 1 if any(failures) or not paths else 0


if __name__ == "__main__":
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    sys.exit(main(*map(os.path.abspath, sys.argv[1:4]), sys.argv[4:]))
