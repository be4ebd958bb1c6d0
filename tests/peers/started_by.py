"""hello_ranks, started by others than deepscale: every rank finds its place and its peers by itself.

usage: started_by.py HELLO_RANKS LAUNCHER    mpich, openmpi, torchrun, or slurm (its environment alone: a parent that is called like its daemon)
Ends with 77, and says why, where the launcher is not there.
"""
import ctypes
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import peer

HELLO_RANKS = os.path.abspath(sys.argv[1])
LAUNCHER = sys.argv[2]
RANKS = 4
LINE = re.compile(r"rank (\d+) of (\d+) \(rank (\d+) of node \d+, started by (.*)\): sum of ranks = (\d+) \[\w+\]$")
BEHIND_A_WRAPPER = ["sh", "-c", '"$0" "$@"; exit $?']  # so that every rank has a parent of its own


class Mpi:
    def __init__(self, name, words, started_by):
        self.program, self.words, self.started_by = shutil.which(name), words, started_by
        self.why_not = "" if self.program else f"{name} is not installed"

    def start(self, program, variables):
        options = [word for name in variables for word in (["-x", name] if self.started_by == "Open MPI" else [])]
        root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        return subprocess.Popen([self.program] + self.words + options + program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                stdin=subprocess.DEVNULL, env=os.environ | root | variables)


class Torchrun(Mpi):
    def __init__(self):
        self.program, self.started_by = peer.find_program("torchrun"), "RANK and WORLD_SIZE"
        self.words = ["--nproc_per_node", str(RANKS), "--no-python", "--master_port", "0"]
        self.why_not = "" if self.program else "torchrun is not installed"

    def start(self, program, variables):
        self.words[-1] = peer.free_port()
        return super().start(program, {})  # it sets MASTER_ADDR and MASTER_PORT itself


class Slurm:
    """A job step of srun on one node, as its ranks see it."""
    started_by = "Slurm"
    why_not = ""
    PR_SET_NAME = 15

    def start(self, program, variables):
        ctypes.CDLL(None).prctl(self.PR_SET_NAME, b"slurmstepd", 0, 0, 0)
        step = {"SLURM_JOB_ID": "4242", "SLURM_STEP_ID": "0", "SLURM_NTASKS": str(RANKS), "SLURM_NNODES": "1", "SLURM_NODEID": "0"}
        script = 'for rank in $(seq 0 $((SLURM_NTASKS - 1))); do SLURM_PROCID=$rank SLURM_LOCALID=$rank "$0" "$@" & done; wait'
        command = "import ctypes, subprocess, sys\n" \
                  f"ctypes.CDLL(None).prctl({self.PR_SET_NAME}, b'slurmstepd', 0, 0, 0)\n" \
                  "sys.exit(subprocess.run(sys.argv[1:]).returncode)"
        return subprocess.Popen([sys.executable, "-c", command, "bash", "-c", script] + program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                text=True, stdin=subprocess.DEVNULL, env=os.environ | step | variables)


LAUNCHERS = {"mpich": lambda: Mpi("mpirun.mpich", ["-n", str(RANKS)], "PMI"),
             "openmpi": lambda: Mpi("mpirun.openmpi", ["--oversubscribe", "-n", str(RANKS)], "Open MPI"),
             "torchrun": Torchrun, "slurm": Slurm}


class StartedBy(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def start(self, program, **variables):
        return LAUNCHERS[LAUNCHER]().start(program, {"TMPDIR": self.folder.name, **variables})

    def expect_all(self, *jobs):
        for job in jobs:
            self.expect_ranks(job)
        left = [name for name in os.listdir(self.folder.name) if name.endswith(".port")]
        self.assertEqual(left, [], "the file through which the ranks met")

    def expect_ranks(self, job):
        text = job.communicate(timeout=120)[0]
        self.assertEqual(job.returncode, 0, text)
        found = [match.groups() for match in map(LINE.search, text.splitlines()) if match]
        total = str(sum(range(RANKS)))
        started_by = LAUNCHERS[LAUNCHER]().started_by
        self.assertEqual(sorted(found), [(str(rank), str(RANKS), str(rank), started_by, total) for rank in range(RANKS)], text)

    def test_directly(self):
        self.expect_all(self.start([HELLO_RANKS]))

    def test_behind_a_wrapper_script(self):
        self.expect_all(self.start(BEHIND_A_WRAPPER + [HELLO_RANKS]))

    def test_where_master_addr_and_port_say(self):
        self.expect_all(self.start([HELLO_RANKS], MASTER_ADDR="127.0.0.1", MASTER_PORT=peer.free_port()))

    def test_two_jobs_side_by_side(self):
        self.expect_all(self.start([HELLO_RANKS]), self.start([HELLO_RANKS]))


if __name__ == "__main__":
    if why_not := LAUNCHERS[LAUNCHER]().why_not:
        peer.skip_all(why_not)
    peer.main("__main__")
