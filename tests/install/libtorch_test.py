#!/usr/bin/env python3
"""How CMake finds LibTorch and fetches pinned wheels, with made LibTorch folders and a made pip: nothing here uses the network.

usage: libtorch_test.py <folder cmake of the repository>
"""
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import unittest
import zipfile

MODULES = os.path.abspath(sys.argv.pop(1))
LIBTORCH_PROJECT = """
    set(DEEPSCALE_WITH_CUDA AUTO CACHE STRING "")
    include(LibTorch)
    get_directory_property(definitions COMPILE_DEFINITIONS)
    message(STATUS "found ${DEEPSCALE_LIBTORCH_ROOT} ${DEEPSCALE_LIBTORCH_VERSION} [${definitions}] cuda ${DEEPSCALE_CUDA_ENABLED}")
"""


def made_wheel():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as wheel:
        wheel.writestr(zipfile.ZipInfo("package/hello.txt"), "hello")
    return buffer.getvalue()


class CMakeTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="deepscale_cmake_")
        self.addCleanup(shutil.rmtree, self.folder)
        self.environment = {"PATH": os.environ["PATH"], "HOME": self.folder}

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def write(self, name, text, mode=0o644):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(textwrap.dedent(text))
        os.chmod(self.path(name), mode)

    def configure(self, body, *arguments):
        """Configures a project that is only this body; returns the exit status and the output on one line."""
        header = f"""
            cmake_minimum_required(VERSION 3.22)
            project(Probe LANGUAGES NONE)
            set(CMAKE_FIND_LIBRARY_PREFIXES lib)
            set(CMAKE_FIND_LIBRARY_SUFFIXES .so)
            list(APPEND CMAKE_MODULE_PATH "{MODULES}")
            """
        self.write("CMakeLists.txt", header + body)
        done = subprocess.run(["cmake", "-S", self.folder, "-B", self.path("build"), *arguments], env=self.environment,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        return done.returncode, " ".join((done.stdout + done.stderr).split())


class LibTorchTest(CMakeTest):
    def make_libtorch(self, name, version="2.9.1", flags=""):
        self.write(f"{name}/include/torch/csrc/api/include/torch/torch.h", "")
        self.write(f"{name}/share/cmake/Torch/TorchConfigVersion.cmake", f'set(PACKAGE_VERSION "{version}")\n')
        self.write(f"{name}/share/cmake/Torch/TorchConfig.cmake", f'set(TORCH_CXX_FLAGS "{flags}")\n')
        for library in ("torch_cpu", "c10"):
            self.write(f"{name}/lib/lib{library}.so", "")
        return self.path(name)

    def expect_found(self, root, *arguments):
        status, output = self.configure(LIBTORCH_PROJECT, *arguments)
        self.assertEqual(status, 0, output)
        self.assertIn(f"found {root} 2.9.1 [] cuda OFF", output)

    def expect_error(self, message, *arguments):
        status, output = self.configure(LIBTORCH_PROJECT, *arguments)
        self.assertNotEqual(status, 0, output)
        self.assertIn(message, output)

    def test_torch_dir(self):
        root = self.make_libtorch("libtorch")
        self.expect_found(root, f"-DTorch_DIR={root}/share/cmake/Torch")

    def test_torch_dir_of_the_environment(self):
        root = self.make_libtorch("libtorch")
        self.environment["Torch_DIR"] = f"{root}/share/cmake/Torch"
        self.expect_found(root)

    def test_prefix_path(self):
        root = self.make_libtorch("libtorch")
        self.expect_found(root, f"-DCMAKE_PREFIX_PATH=/nowhere;{root}")
        self.expect_found(root, f"-DCMAKE_PREFIX_PATH={root}/share/cmake")  # torch.utils.cmake_prefix_path
        self.expect_found(root, f"-DCMAKE_PREFIX_PATH={self.folder}")  # where the zip was unpacked

    def test_prefix_path_of_the_environment(self):
        root = self.make_libtorch("libtorch")
        self.environment["CMAKE_PREFIX_PATH"] = f"/nowhere:{root}"
        self.expect_found(root)

    def test_torch_of_python(self):
        root = self.make_libtorch("site/torch")
        self.write("site/torch/__init__.py", "raise ImportError('a library of CUDA is missing')")
        self.environment["PYTHONPATH"] = self.path("site")
        self.expect_found(root, "-DDEEPSCALE_USE_PYTHON_TORCH=ON")

    def test_python_without_torch(self):
        self.write("bin/python3", "#!/bin/sh\nexit 1\n", 0o755)
        self.environment["PATH"] = self.path("bin") + ":" + self.environment["PATH"]
        self.expect_error("python3 has no package torch", "-DDEEPSCALE_USE_PYTHON_TORCH=ON")

    def test_torch_dir_that_is_none(self):
        self.expect_error("Torch_DIR=/usr/share is not <libtorch>/share/cmake/Torch", "-DTorch_DIR=/usr/share")

    def test_too_old(self):
        root = self.make_libtorch("libtorch", version="2.3.1")
        self.expect_error("is too old: 2.4 is the oldest that works", f"-DCMAKE_PREFIX_PATH={root}")

    def test_old_string_abi_is_adopted(self):
        root = self.make_libtorch("libtorch", flags="-D_GLIBCXX_USE_CXX11_ABI=0")
        _, output = self.configure(LIBTORCH_PROJECT, f"-DCMAKE_PREFIX_PATH={root}")
        self.assertIn("[_GLIBCXX_USE_CXX11_ABI=0]", output)

    def test_cuda_on_without_its_libraries(self):
        root = self.make_libtorch("libtorch")
        self.expect_error("DEEPSCALE_WITH_CUDA=ON needs the CUDA toolkit", f"-DCMAKE_PREFIX_PATH={root}", "-DDEEPSCALE_WITH_CUDA=ON")


class PinnedWheelTest(CMakeTest):
    def setUp(self):
        super().setUp()
        wheel = made_wheel()
        self.digest = hashlib.sha256(wheel).hexdigest()
        with open(self.path("made.whl"), "wb") as file:
            file.write(wheel)
        self.environment["PATH"] = self.path("bin") + ":" + self.environment["PATH"]
        self.make_pip('cp "$FOLDER/made.whl" "$into/made-1.0-py3-none-any.whl"')

    def make_pip(self, download):
        """A python3 whose pip records its downloads and does what it is told."""
        self.write("bin/python3", f"""\
            #!/bin/sh
            FOLDER={self.folder}
            case "$*" in *"pip --version"*) exit 0 ;; esac
            echo "$*" >>"$FOLDER/downloads"
            while [ $# -gt 0 ]; do
              [ "$1" = --dest ] && into=$2
              shift
            done
            {download}
            """, 0o755)

    def downloads(self):
        with open(self.path("downloads"), encoding="utf-8") as file:
            return len(file.readlines())

    def fetch(self, digest=None):
        return self.configure(f"""
            include(PinnedWheel)
            deepscale_cached_wheels(made folder made==1.0 {digest or self.digest})
            message(STATUS "unpacked in ${{folder}}")
            """, f"-DDEEPSCALE_CACHE_DIR={self.path('cache')}")

    def test_unpacks_once_and_keeps_no_archive(self):
        for _ in range(2):
            status, output = self.fetch()
            self.assertEqual(status, 0, output)
            self.assertIn(f"unpacked in {self.path('cache', 'made')}", output)
        self.assertTrue(os.path.exists(self.path("cache/made/package/hello.txt")))
        self.assertEqual(self.downloads(), 1)
        self.assertEqual(sorted(os.listdir(self.path("cache"))), ["cmake.lock", "made"])

    def test_a_wrong_digest_leaves_nothing(self):
        status, output = self.fetch("0" * 64)
        self.assertNotEqual(status, 0)
        self.assertIn(f"SHA-256 {self.digest}, expected {'0' * 64}", output)
        self.assertEqual(os.listdir(self.path("cache")), ["cmake.lock"])
        self.assertEqual(self.fetch()[0], 0)

    def test_an_interrupted_unpacking_does_not_count(self):
        self.write("cache/made/package/half.txt", "")
        self.write("cache/made.download/rest.whl", "")
        self.assertEqual(self.fetch()[0], 0)
        self.assertEqual(os.listdir(self.path("cache/made/package")), ["hello.txt"])

    def test_without_a_network_says_what_to_do(self):
        self.make_pip("echo 'no matching distribution' >&2; exit 1")
        status, output = self.fetch()
        self.assertNotEqual(status, 0)
        self.assertIn("pip could not fetch made==1.0 from PyPI. docs/building.md says how to build without a network.", output)
        self.assertIn("no matching distribution", output)

    def test_a_full_cache_needs_no_pip(self):
        self.assertEqual(self.fetch()[0], 0)
        self.make_pip("exit 1")
        self.assertEqual(self.fetch()[0], 0)
        self.assertEqual(self.downloads(), 1)


if __name__ == "__main__":
    unittest.main()
