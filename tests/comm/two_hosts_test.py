"""two_hosts_test.py DEEPSCALE: ranks on two hosts, which are network namespaces with a cable between them.

Runs `deepscale bench comm` as ranks, which checks what every collective yields. Needs root and the program ip; exits with 77 where
they are missing.
"""
import json
import os
import signal
import subprocess
import sys
import time
import unittest

DEEPSCALE = ""
HOSTS = ("a", "b")
DEADLINE_SECONDS = 240


def ip(*words, check=True):
    return subprocess.run(("ip",) + words, check=check, capture_output=True, text=True)


class Network:
    """Two namespaces, 10.83.0.1 and 10.83.0.2, on one cable; gone at the end of the with-block."""

    def __init__(self):
        self.names = {host: f"ds{os.getpid()}{host}" for host in HOSTS}

    def __enter__(self):
        try:
            for name in self.names.values():
                ip("netns", "add", name)
            ip("link", "add", self.names["a"], "type", "veth", "peer", "name", self.names["b"])
            for number, host in enumerate(HOSTS, 1):
                name = self.names[host]
                ip("link", "set", name, "netns", name)
                ip("-n", name, "addr", "add", f"10.83.0.{number}/24", "dev", name)
                ip("-n", name, "link", "set", name, "up")
                ip("-n", name, "link", "set", "lo", "up")
        except (OSError, subprocess.CalledProcessError):
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for name in self.names.values():
            ip("netns", "del", name, check=False)

    def start(self, ranks_on, arguments):
        """Starts ranks_on[0] ranks on the first host and so on; returns their processes in order."""
        world_size = sum(ranks_on)
        processes = []
        for node, (host, count) in enumerate(zip(HOSTS, ranks_on)):
            for local_rank in range(count):
                environment = dict(os.environ, RANK=str(len(processes)), WORLD_SIZE=str(world_size), LOCAL_RANK=str(local_rank),
                                   LOCAL_WORLD_SIZE=str(count), GROUP_RANK=str(node), GROUP_WORLD_SIZE="2",
                                   MASTER_ADDR="10.83.0.1", MASTER_PORT="29555")
                environment.pop("DEEPSCALE_BACKEND", None)
                processes.append(subprocess.Popen(
                    ["ip", "netns", "exec", self.names[host], DEEPSCALE, "bench", "comm", "--json"] + arguments,
                    env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        return processes


def finish(processes):
    """What each printed; a rank that does not end is killed, and its code says so."""
    texts = []
    end = time.monotonic() + DEADLINE_SECONDS
    for process in processes:
        try:
            texts.append(process.communicate(timeout=max(end - time.monotonic(), 0.1))[0])
        except subprocess.TimeoutExpired:
            process.kill()
            texts.append(process.communicate()[0] + "\n(it did not end)")
    return texts


def kill(processes):
    for process in processes:
        process.kill()
        process.wait()


class TwoHosts(unittest.TestCase):
    def setUp(self):
        self.network = Network()
        self.network.__enter__()
        self.addCleanup(self.network.__exit__)

    def check(self, ranks_on, backend, arguments=()):
        processes = self.network.start(ranks_on, ["--op", "all", "--max_bytes", "512K", "--factor", "256", "--iterations", "2"]
                                       + list(arguments))
        texts = finish(processes)
        self.assertEqual([process.returncode for process in processes], [0] * len(processes), "\n".join(texts))
        header, *rows = [json.loads(line) for line in texts[0].splitlines() if line.startswith("{")]
        self.assertEqual(header["backend"], backend)
        self.assertEqual({row["op"] for row in rows}, {"all_reduce", "reduce_scatter", "all_gather", "broadcast", "all_to_all",
                                                       "send_receive", "barrier"})
        for row in rows:
            self.assertEqual((row["plain"]["wrong"], row["shared"]["wrong"]), (0, 0), row)

    def test_even_hosts_take_shared_memory_within_and_tcp_between(self):
        self.check((2, 2), "hierarchical")

    def test_uneven_hosts_take_tcp(self):
        self.check((2, 1), "tcp")

    def test_one_rank_on_each_host_takes_tcp(self):
        self.check((1, 1), "tcp", ["--dtype", "bf16"])

    def test_tcp_when_it_is_asked_for(self):
        self.check((2, 2), "tcp", ["--backend", "tcp"])

    @unittest.skipUnless(os.environ.get("DEEPSCALE_TEST_GLOO"), "this build has no Gloo")
    def test_gloo_when_it_is_asked_for(self):
        self.check((2, 2), "gloo", ["--backend", "gloo"])

    def test_when_a_rank_is_killed_all_others_end_with_an_error(self):
        processes = self.network.start((2, 2), ["--op", "all_reduce", "--min_bytes", "1M", "--max_bytes", "1M",
                                                "--iterations", "1000000"])
        self.addCleanup(kill, processes)
        self.assertTrue(processes[0].stdout.readline().startswith("{"))  # all have met
        os.kill(processes[3].pid, signal.SIGKILL)  # ip became the rank
        texts = finish(processes)
        for rank in range(3):
            self.assertEqual(processes[rank].returncode, 1, texts[rank])
            self.assertIn("lost rank", texts[rank])


def why_not():
    if os.geteuid() != 0:
        return "network namespaces need root"
    try:
        with Network():
            return None
    except OSError as error:
        return f"the program ip: {error.strerror}"
    except subprocess.CalledProcessError as error:
        return f"no network namespaces here: {error.stderr.strip()}"


if __name__ == "__main__":
    DEEPSCALE = os.path.abspath(sys.argv.pop(1))
    reason = why_not()
    if reason:
        print("skipped:", reason)
        sys.exit(77)
    unittest.main(verbosity=2)
