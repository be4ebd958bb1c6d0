#!/usr/bin/env python3
"""Measures `deepscale launch` against the launchers that are installed, and prints Markdown tables.

usage: launcher_bench.py BUILD_FOLDER [--peers FOLDER] [--rounds N] [--only CASE ...]

Cases: start, rendezvous, failure, stubborn, output, store, plan. Within a case all launchers take turns in one run; a figure is the median
over the turns, and a ratio the median of the ratios of neighbouring turns. Peers: mpirun.mpich and mpirun.openmpi with the compilers beside
them (mpicc.mpich, mpicc.openmpi), torchrun and deepspeed of FOLDER (/tmp/deepscale-peers/venv/bin) or of PATH. What is not there is left out.

`--only wine` takes a build for Windows, without peers, and a Wine prefix (WINEPREFIX) that tests/lanes/start_wine.sh has started.
"""
import argparse
import json
import os
import re
import resource
import select
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

LIMIT_SECONDS = 90  # a run that takes longer is reported as that
STUBBORN_GRACE = 1.0
LINES_A_SECOND = 10_000
LINE_SECONDS = 3
GIGABYTE = 1 << 30

MPI_BARRIER = "#include <mpi.h>\nint main(int c, char** v) { MPI_Init(&c, &v); MPI_Barrier(MPI_COMM_WORLD); MPI_Finalize(); return 0; }\n"
# Waits in MPI or out of it until it may fail: rank 0 does so when the pipe that is its argument is closed.
MPI_FAILURE = """
#include <fcntl.h>
#include <mpi.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>
int main(int c, char** v) {
  if (atoi(v[2])) signal(SIGTERM, SIG_IGN);
  int rank;
  char byte;
  MPI_Init(&c, &v);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  if (rank != 0) sleep(60);
  if (read(open(v[1], O_RDONLY), &byte, 1) >= 0) exit(3);
}
"""
NATIVE_FAILURE = """
[ "$2" = 0 ] || trap '' TERM
case ${RANK:-${PMI_RANK:-$OMPI_COMM_WORLD_RANK}} in
  0) read byte < "$1"; exit 3 ;;
  *) exec sleep 60 ;;
esac
"""
PACED_LINES = f"""
import os, sys, time
rank = os.environ.get("RANK") or os.environ.get("PMI_RANK") or os.environ["OMPI_COMM_WORLD_RANK"]
start = time.monotonic()
for batch in range({LINE_SECONDS * 100}):
    first = batch * {LINES_A_SECOND // 100}
    sys.stdout.write("".join(f"<{{rank}} {{n}} {{'x' * 50}} {{n}}>\\n" for n in range(first, first + {LINES_A_SECOND // 100})))
    sys.stdout.flush()
    time.sleep(max(0, start + (batch + 1) / 100 - time.monotonic()))
"""
TORCH_STORE = """
import sys, torch.distributed as d
store = d.TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False)
print(store.port, flush=True)
sys.stdin.read()
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


class Launcher:
    """How a launcher is called; `mpi` names the MPI whose programs it starts."""

    def __init__(self, name, words, mpi=None):
        self.name, self.words, self.mpi = name, words, mpi

    def command(self, ranks, program, options=()):
        return self.words(str(ranks)) + list(options) + program


def installed_launchers(build, peers):
    def find(name):
        path = os.path.join(peers, name)
        return path if os.access(path, os.X_OK) else shutil.which(name)

    launchers = [Launcher("deepscale", lambda n: [f"{build}/bin/deepscale", "launch", "-q", "--num_gpus", n])]
    if shutil.which("mpirun.mpich"):
        launchers.append(Launcher("MPICH", lambda n: ["mpirun.mpich", "-n", n], "mpich"))
    if shutil.which("mpirun.openmpi"):
        launchers.append(Launcher("Open MPI", lambda n: ["mpirun.openmpi", "--allow-run-as-root", "--oversubscribe", "-n", n], "openmpi"))
    if torchrun := find("torchrun"):
        launchers.append(Launcher("torchrun", lambda n: [torchrun, "--nproc_per_node", n, "--master_port", free_port(), "--no-python"]))
    if deepspeed := find("deepspeed"):
        launchers.append(Launcher("deepspeed", lambda n: [deepspeed, "--num_accelerators", n, "--master_port", free_port(), "--no_python",
                                                          "--no_local_rank"]))
    return launchers


def environment(peers):
    variables = dict(os.environ, DS_ACCELERATOR="cpu", OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")
    variables["PATH"] = peers + ":" + variables["PATH"]
    return variables


class Job:
    """A launcher in a session of its own, which ends with the object."""

    def __init__(self, command, variables, **streams):
        self.start = time.perf_counter()
        self.process = subprocess.Popen(command, env=variables, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
                                        **{"stdout": subprocess.DEVNULL, **streams})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            for pid in descendants(self.process.pid) + [self.process.pid]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self.process.wait()

    def finish(self, since=None):
        """Seconds until it ended; none when that took too long."""
        handle = os.pidfd_open(self.process.pid)  # Popen.wait() with a limit sleeps between its looks, at last 50 ms
        ended, _, _ = select.select([handle], [], [], LIMIT_SECONDS)
        seconds = time.perf_counter() - (since or self.start)
        os.close(handle)
        if not ended:
            return None
        self.process.wait()
        return seconds

    def peak_megabytes(self):
        """VmHWM of the launcher alone, sampled to its end."""
        peak = 0
        while self.process.poll() is None:
            try:
                with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
                    peak = max([peak] + [int(line.split()[1]) for line in status if line.startswith("VmHWM")])
            except OSError:
                break
            time.sleep(0.001)
        self.process.wait()
        return peak / 1024


def descendants(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as children:
            found = [int(child) for child in children.read().split()]
    except OSError:
        return []
    return found + [below for child in found for below in descendants(child)]


def processor_seconds():
    """Of all our children that ended, and theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def take_turns(subjects, rounds, measure, slow=()):
    """Figures of each subject by name, over `rounds` turns; those that are slow take part in every fifth turn. Stops asking one that failed."""
    figures = {subject: [] for subject in subjects}
    for turn in range(-1, rounds):  # the first warms the caches
        for subject in subjects:
            if subject in slow and turn % 5 != 0 or None in figures[subject]:
                continue
            figure = measure(subject)
            if turn >= 0 or figure is None:
                figures[subject].append(figure if turn >= 0 or figure is None else None)
    return figures


def milliseconds(seconds):
    return f"{1000 * seconds:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def ratio(figures, base):
    """The median ratio of neighbouring turns; of medians where turns were left out."""
    if len(figures) == len(base):
        return statistics.median(figure / ours for figure, ours in zip(figures, base))
    return statistics.median(figures) / statistics.median(base)


def table(head, rows):
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print(flush=True)


class Bench:
    def __init__(self, options, scratch):
        self.build, self.rounds, self.scratch = options.build, options.rounds, scratch
        self.launchers = installed_launchers(options.build, options.peers)
        self.variables = environment(options.peers)
        self.python = os.path.join(options.peers, "python")
        self.processor_seconds = {}  # by command: what it and all its ranks took, which a busy machine changes little

    def named(self, name):
        return next(launcher for launcher in self.launchers if launcher.name == name)

    def slow(self):
        return [launcher for launcher in self.launchers if launcher.name in ("torchrun", "deepspeed")]

    def mpi_program(self, mpi, source):
        """The path of the program compiled for this MPI; none when its compiler or headers are missing."""
        path = os.path.join(self.scratch, f"{mpi}_{abs(hash(source))}")
        if not os.path.exists(path):
            with open(path + ".c", "w", encoding="ascii") as file:
                file.write(source)
            compiler = shutil.which(f"mpicc.{mpi}")
            if not compiler or subprocess.run([compiler, "-O2", "-o", path, path + ".c"], stderr=subprocess.DEVNULL, check=False).returncode:
                print(f"Left out: no program for {mpi} can be compiled here.\n")
                return None
        return path

    def time_command(self, command):
        before = processor_seconds()
        with Job(command, self.variables) as job:
            seconds = job.finish()
            if job.process.returncode != 0:
                return None
        self.processor_seconds.setdefault(tuple(command), []).append(processor_seconds() - before)
        return seconds

    def peak(self, command):
        with Job(command, self.variables) as job:
            return job.peak_megabytes()

    def compare(self, ranks, programs, slow=(), rounds=None):
        """A table of launchers over `ranks`; programs: what each launcher starts."""
        rows = []
        for count in ranks:
            commands = {launcher: launcher.command(count, program) for launcher, program in programs.items()}
            figures = take_turns(list(commands), rounds or self.rounds, lambda launcher: self.time_command(commands[launcher]), slow)
            ours = next(iter(figures.values()))
            for launcher, seconds in figures.items():
                if None in seconds:
                    rows.append([str(count), launcher.name, f"failed, or took over {LIMIT_SECONDS} s", "", "", ""])
                    continue
                processor = statistics.median(self.processor_seconds[tuple(commands[launcher])])
                rows.append([str(count), launcher.name, milliseconds(statistics.median(seconds)), f"{ratio(seconds, ours):.2f}",
                             milliseconds(processor), f"{self.peak(commands[launcher]):.1f} MB"])
        table(["ranks", "launcher", "median", "ratio to deepscale", "processor time of all", "peak RSS of the launcher"], rows)

    def start(self):
        print("### No-op ranks: `true`\n")
        self.compare([2, 8], {launcher: ["/bin/true"] for launcher in self.launchers}, self.slow())

    def rendezvous(self):
        print("### Start, rendezvous, barrier, exit: hello_ranks, and MPI_Init, MPI_Barrier, MPI_Finalize\n")
        programs = {self.named("deepscale"): [f"{self.build}/bin/hello_ranks"]}
        for launcher in self.launchers:
            if launcher.mpi and (path := self.mpi_program(launcher.mpi, MPI_BARRIER)):
                programs[launcher] = [path]
        rounds = max(3, self.rounds // 3)
        self.compare([8], programs, rounds=rounds)
        self.compare([64, 256], {self.named("deepscale"): programs[self.named("deepscale")]}, rounds=rounds)  # the others spin: minutes on few cores

    def time_failure(self, launcher, is_stubborn):
        """From the moment when rank 0 of 5 may exit with 3, to the launcher's end."""
        gate = os.path.join(self.scratch, "gate")
        if os.path.exists(gate):
            os.remove(gate)
        os.mkfifo(gate)
        program = ["sh", "-c", NATIVE_FAILURE, "rank"]
        if launcher.mpi and not (program := [self.mpi_program(launcher.mpi, MPI_FAILURE)])[0]:
            return None
        options = ["--grace", f"{STUBBORN_GRACE}s"] if launcher.name == "deepscale" else []
        with Job(launcher.command(5, program + [gate, str(int(is_stubborn))], options), self.variables) as job:
            with open(gate, "w", encoding="ascii"):  # waits until rank 0 is there
                time.sleep(0.3)  # and the others too
            return job.finish(since=time.perf_counter())

    def end(self, is_stubborn):
        figures = take_turns(self.launchers, max(3, self.rounds // 3), lambda launcher: self.time_failure(launcher, is_stubborn), self.slow())
        rows = [[launcher.name, f"over {LIMIT_SECONDS} s" if None in seconds else milliseconds(statistics.median(seconds)),
                 "" if None in seconds else milliseconds(max(seconds))] for launcher, seconds in figures.items()]
        table(["launcher", "median until it returns", "slowest"], rows)

    def failure(self):
        print("### Rank 0 of 5 exits with 3 while the others sleep\n")
        self.end(is_stubborn=False)

    def stubborn(self):
        print(f"### The same, and the others ignore SIGTERM (`--grace {STUBBORN_GRACE:g}s`; the peers have their own)\n")
        self.end(is_stubborn=True)

    def count_lines(self, launcher):
        """Whole lines, and lines that are none, of 8 ranks that print at a steady rate."""
        whole = re.compile(rb"(?:\[\d+\] ?|\[[^\]]*\]<std[a-z]+>: ?)?<\d+ (\d+) x{50} (\d+)>$")
        with Job(launcher.command(8, [sys.executable, "-c", PACED_LINES]), self.variables, stdout=subprocess.PIPE) as job:
            lines = [line.rstrip(b"\n") for line in job.process.stdout]
            job.finish()
        matches = [whole.match(line) for line in lines]
        good = sum(1 for match in matches if match and match[1] == match[2])
        return good, len(lines) - good

    def output(self):
        expected = 8 * LINES_A_SECOND * LINE_SECONDS
        print(f"### Output: {LINES_A_SECOND} lines a second from each of 8 ranks, {expected} in all\n")
        rows = []
        for launcher in self.launchers:
            good, torn = self.count_lines(launcher)
            rows.append([launcher.name, str(good), str(expected - good), str(torn)])
        table(["launcher", "whole lines", "missing", "other lines"], rows)
        print("### Output: 1 GB of lines from one rank, through a pipe\n")
        program = ["sh", "-c", f"yes a line of a rank that has much to tell | head -c {GIGABYTE}"]
        rows = []
        for launcher in self.launchers:
            command = launcher.command(1, program)
            with Job(["sh", "-c", 'exec "$@" | cat >/dev/null', "sh"] + command, self.variables) as job:
                seconds = job.finish()
            with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as reader:
                with Job(command, self.variables, stdout=reader.stdin) as job:
                    reader.stdin.close()
                    peak = job.peak_megabytes()
            rows.append([launcher.name, milliseconds(seconds), f"{peak:.1f} MB"])
        table(["launcher", "time", "peak RSS of the launcher"], rows)

    def time_store(self, server):
        with subprocess.Popen(server, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=self.variables) as process:
            port = process.stdout.readline().decode().strip()
            client = subprocess.run([f"{self.build}/tests/store_bench", "127.0.0.1", port, "4096"], stdout=subprocess.PIPE, check=True,
                                    timeout=LIMIT_SECONDS)
            process.stdin.close()
        return json.loads(client.stdout)

    def store(self):
        print("### The store: 4096 clients join, then 64 of them set and get (the same client for both servers)\n")
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        servers = {"deepscale": [f"{self.build}/tests/store_peer", "serve"]}
        if subprocess.run([self.python, "-c", "import torch"], stderr=subprocess.DEVNULL, check=False).returncode == 0:
            servers["torch TCPStore"] = [self.python, "-c", TORCH_STORE]
        figures = take_turns(list(servers), max(3, self.rounds // 3), lambda name: self.time_store(servers[name]))
        rows = [[name, milliseconds(statistics.median(each["join_seconds"] for each in turns)),
                 f"{statistics.median(each['operations_per_second'] for each in turns):.0f}"] for name, turns in figures.items()]
        table(["server", "4096 clients join", "set and get, operations/s"], rows)

    def plan(self):
        print("### Planning: `--dry-run` with a hostfile, every second host excluded\n")
        counts = [10, 1000, 10_000]
        files = {}
        for count in counts:
            files[count] = os.path.join(self.scratch, f"hosts_{count}")
            with open(files[count], "w", encoding="ascii") as file:
                file.writelines(f"node-{host} slots={1 + host % 8}\n" for host in range(count))
        command = [f"{self.build}/bin/deepscale", "launch", "--dry-run", "--exclude"]
        figures = take_turns(counts, self.rounds, lambda count: self.time_command(
            command + ["@".join(f"node-{host}" for host in range(0, min(count, 10_000), 2)), "--hostfile", files[count], "/bin/true"]))
        table(["hosts", "median"], [[str(count), milliseconds(statistics.median(seconds))] for count, seconds in figures.items()])

    def wine(self):
        print("### Under Wine: a program that ends at once, alone and as ranks\n")
        program = [f"{self.build}/tests/test_child.exe"]
        launch = ["wine", f"{self.build}/bin/deepscale.exe", "launch", "-q", "--num_gpus"]
        commands = {"the program alone": ["wine"] + program, "2 ranks": launch + ["2"] + program, "8 ranks": launch + ["8"] + program}
        figures = take_turns(list(commands), self.rounds, lambda name: self.time_command(commands[name]))
        rows = [[name, milliseconds(statistics.median(seconds)), milliseconds(min(seconds))] for name, seconds in figures.items()]
        table(["what", "median", "fastest"], rows)


CASES = ["start", "rendezvous", "failure", "stubborn", "output", "store", "plan"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("--peers", default="/tmp/deepscale-peers/venv/bin")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", nargs="+", choices=CASES + ["wine"], default=CASES)
    options = parser.parse_args()
    options.build = os.path.abspath(options.build)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start, {options.rounds} turns\n")
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(options, scratch)
        for case in options.only:
            getattr(bench, case)()


if __name__ == "__main__":
    main()
