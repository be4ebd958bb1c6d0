#!/usr/bin/env python3
"""Proves that the checker catches what it is there for: each case plants one violation in an otherwise clean tree."""
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

import rules

TIDY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tidy.py")
CLEAN = {
    "comm/CMakeLists.txt": "deepscale_platform_sources(sources base/host)\nadd_library(comm base/error.cc ${sources})\n",
    "comm/base/error.h": "#pragma once\n#include <string>\nstd::string describe();\n",
    "comm/base/error.cc": '#include "comm/base/error.h"\nstd::string describe() { return "Todo list"; }\n',
    "comm/base/host_linux.cc": "#include <unistd.h>\n",
    "comm/base/host_windows.cc": "#include <windows.h>\n",
    "launcher/job/plan.h": '#pragma once\n#include "comm/base/error.h"\n',
    "runtime/engine/engine.h": "#pragma once\n#include <torch/torch.h>\n",
}


class TidyTest(unittest.TestCase):
    def setUp(self):
        self.root = tempfile.mkdtemp(prefix="deepscale_tidy_")
        self.addCleanup(shutil.rmtree, self.root)
        for path, text in CLEAN.items():
            self.write(path, text)

    def write(self, path, text):
        full = os.path.join(self.root, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w", encoding="utf-8") as file:
            file.write(text)

    def findings(self, rule):
        return list(rules.RULES[rule](rules.Tree(self.root)))

    def expect(self, rule, path, text):
        """Plants the file and expects exactly one finding, about this file, of this rule."""
        self.write(path, text)
        found = self.findings(rule)
        self.assertEqual(len(found), 1, found)
        self.assertTrue(found[0].startswith(path), found)

    def run_tidy(self, *arguments):
        return subprocess.run([sys.executable, TIDY, self.root, *arguments], capture_output=True, text=True, timeout=60)

    def test_a_clean_tree_has_no_findings(self):
        for rule in rules.RULES:
            self.assertEqual(self.findings(rule), [], rule)
            self.assertEqual(self.run_tidy(rule).returncode, 0)

    def test_include_of_a_higher_floor(self):
        self.expect("layers", "comm/base/bad.h", '#include "comm/store/store.h"\n')

    def test_launcher_and_runtime_do_not_meet(self):
        self.expect("layers", "launcher/job/bad.h", '#include "runtime/config/config.h"\n')
        self.write("launcher/job/bad.h", "")
        self.expect("layers", "runtime/engine/bad.h", '#include "launcher/job/job_spec.h"\n')

    def test_include_relative_to_the_file(self):
        self.expect("layers", "comm/base/bad.h", '#include "error.h"\n')

    def test_torch_outside_its_folders(self):
        self.expect("third_party", "runtime/zero/bad.cc", "#include <ATen/core/Tensor.h>\n")

    def test_torch_in_the_torch_free_example(self):
        self.expect("third_party", "examples/hello_ranks/bad.cc", "#include <torch/torch.h>\n")

    def test_asio_in_a_header(self):
        self.expect("third_party", "comm/base/bad.h", "#include <boost/asio/io_context.hpp>\n")

    def test_cxxopts_outside_the_command_line(self):
        self.expect("third_party", "launcher/job/bad.cc", "#include <cxxopts.hpp>\n")

    def test_windows_header_in_a_header(self):
        self.expect("platforms", "comm/base/bad_windows.h", "#include <Windows.h>\n")

    def test_posix_header_in_a_common_file(self):
        self.expect("platforms", "comm/base/bad.cc", "#include <sys/wait.h>\n")

    def test_platform_header_in_a_common_file(self):
        self.expect("platforms", "comm/base/bad.cc", '#include "comm/base/host_linux.h"\n')

    def test_platform_macro(self):
        self.expect("platforms", "comm/base/bad.cc", "#  if defined(_WIN32)\n#endif\n")
        self.expect("platforms", "comm/base/bad.cc", "#ifdef __linux__\n#endif\n")

    def test_waiting_on_an_atomic(self):
        self.expect("platforms", "comm/base/bad.cc", "is_done.wait(false);\n")
        self.expect("platforms", "comm/base/bad.cc", "std::latch all(2);\n")

    def test_cuda_macro_in_a_header(self):
        self.expect("platforms", "runtime/engine/bad.h", "#ifdef USE_CUDA\n#endif\n")

    def test_name_that_windows_defines(self):
        self.expect("windows_names", "comm/base/bad.h", "enum class Level { ERROR };  // IN, OUT\n")

    def test_long_file(self):
        self.expect("sizes", "comm/base/bad.cc", "\n" * (rules.MOST_LINES + 1))

    def test_unfinished_work(self):
        self.expect("words", "docs/bad.md", "Works. TODO: explain.\n")

    def test_own_header_not_first(self):
        self.expect("own_header", "comm/base/error.cc", '#include <string>\n#include "comm/base/error.h"\n')

    def test_source_in_no_target(self):
        self.expect("listed", "comm/base/lost.cc", "\n")
        os.remove(os.path.join(self.root, "comm/base/lost.cc"))
        self.expect("listed", "comm/base/terror.cc", "\n")

    def test_header_that_needs_another(self):
        self.assertEqual(self.run_tidy("headers").returncode, 0)
        self.write("comm/base/bad.h", "#pragma once\nstd::string f();\n")
        done = self.run_tidy("headers")
        self.assertEqual(done.returncode, 1)
        self.assertIn("comm/base/bad.h does not compile alone", done.stdout)

    def test_header_without_a_guard(self):
        self.expect("guards", "comm/base/bad.h", "#include <string>\n#pragma once\n")

    def test_format(self):
        self.write("comm/base/bad.cc", "int  main( ){return 0;}\n")
        done = self.run_tidy("format")
        if done.returncode == 77:
            self.skipTest(done.stdout.strip())
        self.assertEqual(done.returncode, 1)
        self.assertIn("comm/base/bad.cc:1", done.stdout)

    def test_unknown_rule(self):
        self.assertEqual(self.run_tidy("nonsense").returncode, 1)


if __name__ == "__main__":
    unittest.main()
