#!/usr/bin/env python3
"""What cpack makes of a build: unpacked into an empty folder it launches a job, and a project that finds it there builds and runs.

usage: package_test.py <build folder> [--windows]

With --windows the build is one for Windows: the zip is unpacked into a new Wine prefix, and its programs run there.
"""
import argparse
import glob
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

TOOLCHAIN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "cmake", "mingw-w64.cmake")


def run(command, **options):
    """Runs it; returns its output, or ends the test with it."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300,
                          **options)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


class Archive(unittest.TestCase):
    """Makes the archives once, in a folder of their own."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="deepscale_package_")
        cls.addClassCleanup(shutil.rmtree, cls.folder)

    @classmethod
    def pack(cls, generator):
        run(["cpack", "-G", generator, "--config", os.path.join(BUILD, "CPackConfig.cmake"), "-B", os.path.join(cls.folder, "packed")])
        ending = {"TGZ": "tar.gz"}.get(generator, generator.lower())
        found = glob.glob(os.path.join(cls.folder, "packed", f"*.{ending}"))
        assert len(found) == 1, found
        return found[0]

    def check_hello(self, output):
        lines = [line.strip() for line in output.splitlines()]
        for rank in (0, 1):
            self.assertTrue(any(f"rank {rank} of 2" in line and "sum of ranks = 1 [shm]" in line for line in lines), output)

    def check_layout(self, root, suffix):
        for name in (f"bin/deepscale{suffix}", f"bin/ds_report{suffix}", f"bin/hello_ranks{suffix}",
                     "include/deepscale/comm/communicator.h", "lib/cmake/DeepScale/DeepScaleConfig.cmake",
                     "share/deepscale/examples/CMakeLists.txt", "share/deepscale/examples/cifar10/main.cc", "share/doc/deepscale/README.md"):
            self.assertTrue(os.path.exists(os.path.join(root, name)), name)

    def build_examples(self, root, *arguments):
        """Builds hello_ranks of the unpacked examples against the unpacked package, with nothing of this repository in reach."""
        build = os.path.join(self.folder, "examples")
        run(["cmake", "-S", os.path.join(root, "share/deepscale/examples"), "-B", build, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
             f"-DDeepScale_DIR={root}/lib/cmake/DeepScale", "-DCMAKE_DISABLE_FIND_PACKAGE_Git=ON", *arguments])
        run(["cmake", "--build", build, "--target", "hello_ranks"])
        return build


class LinuxPackage(Archive):
    def launch(self, root, hello):
        return run([os.path.join(root, "bin/deepscale"), "launch", "--num_gpus", "2", hello], env=EMPTY_ENVIRONMENT)

    def test_tar_gz_runs_and_serves_a_project(self):
        archive = self.pack("TGZ")
        run(["tar", "-xzf", archive, "-C", self.folder])
        root = os.path.join(self.folder, os.path.basename(archive)[:-len(".tar.gz")])
        self.check_layout(root, "")
        self.check_hello(self.launch(root, os.path.join(root, "bin/hello_ranks")))
        if os.path.exists(os.path.join(BUILD, "lib", "libdeepscale_gloo.so")):
            run([os.path.join(root, "bin/deepscale"), "bench", "comm", "--num_gpus", "2", "--backend", "gloo", "--max_bytes", "4K",
                 "--iterations", "1"], env=EMPTY_ENVIRONMENT)
        report = json.loads(run([os.path.join(root, "bin/ds_report"), "--json"], env=EMPTY_ENVIRONMENT))
        self.assertEqual(report["DeepScale general environment info"]["deepscale install path"]["value"], os.path.join(root, "bin"))
        self.check_hello(self.launch(root, os.path.join(self.build_examples(root), "hello_ranks")))

    def test_deb_says_what_it_needs_and_runs(self):
        if not shutil.which("dpkg-deb") or not shutil.which("dpkg-shlibdeps"):
            self.skipTest("dpkg-dev is not installed")
        archive = self.pack("DEB")
        self.assertEqual(run(["dpkg-deb", "-f", archive, "Package"]).strip(), "deepscale")
        self.assertIn("libc6", run(["dpkg-deb", "-f", archive, "Depends"]))
        root = os.path.join(self.folder, "deb")
        run(["dpkg-deb", "-x", archive, root])
        self.check_layout(os.path.join(root, "usr"), "")
        self.check_hello(self.launch(os.path.join(root, "usr"), os.path.join(root, "usr/bin/hello_ranks")))


class WindowsPackage(Archive):
    """In a prefix that is as new as a machine can be; its server ends with the test."""

    def setUp(self):
        self.prefix = os.path.join(self.folder, "wine")
        self.environment = {**EMPTY_ENVIRONMENT, "WINEPREFIX": self.prefix, "WINEDEBUG": "-all"}
        os.mkdir(self.prefix)
        self.addCleanup(subprocess.run, ["wineserver", "-k"], env=self.environment)
        subprocess.run(["sh", os.path.join(os.path.dirname(TOOLCHAIN), "../tests/lanes/start_wine.sh")], env=self.environment, timeout=300,
                       check=True)

    def launch(self, hello):
        return run(["wine", r"C:\deepscale\bin\deepscale.exe", "launch", "--num_gpus", "2", hello], env=self.environment)

    def test_zip_runs_in_a_new_prefix_and_serves_a_project(self):
        archive = self.pack("ZIP")
        drive = os.path.join(self.prefix, "drive_c")
        run(["cmake", "-E", "tar", "xf", archive], cwd=drive)
        root = os.path.join(drive, "deepscale")
        os.rename(os.path.join(drive, os.path.basename(archive)[:-len(".zip")]), root)
        self.check_layout(root, ".exe")
        self.check_hello(self.launch(r"C:\deepscale\bin\hello_ranks.exe"))
        report = json.loads(run(["wine", r"C:\deepscale\bin\ds_report.exe", "--json"], env=self.environment))
        self.assertEqual(report["backends"]["shm"]["compatible"], True)
        built = os.path.join(self.build_examples(root, f"-DCMAKE_TOOLCHAIN_FILE={TOOLCHAIN}"), "hello_ranks.exe")
        self.check_hello(self.launch("Z:" + built.replace("/", "\\")))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--windows", action="store_true", help="the build is one for Windows")
    arguments = parser.parse_args()
    BUILD = os.path.abspath(arguments.build)
    # No variable of the launcher, of a job around this test, or of the build.
    EMPTY_ENVIRONMENT = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    unittest.main(argv=[sys.argv[0], "WindowsPackage" if arguments.windows else "LinuxPackage"], verbosity=2)
