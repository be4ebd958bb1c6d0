"""What the tests with other people's programs share."""
import os
import shutil
import socket
import subprocess
import sys
import unittest

PEERS = "/tmp/deepscale-peers/venv/bin"  # where shared/peers/setup.sh puts them
SKIPPED = 77


def python_with(module):
    """An interpreter that can import the module: that of DEEPSCALE_TORCH_PYTHON, else of the peers, else python3. And why there is none."""
    chosen = os.environ.get("DEEPSCALE_TORCH_PYTHON")
    why = ""
    for python in [chosen] if chosen else [os.path.join(PEERS, "python"), "python3"]:
        if not shutil.which(python):
            continue
        found = subprocess.run([python, "-c", f"import importlib.util, sys; sys.exit(not importlib.util.find_spec('{module}'))"], check=False)
        if found.returncode == 0:
            return shutil.which(python), ""
        why += f"{python} has no module {module}; "
    return None, why + "DEEPSCALE_TORCH_PYTHON names another interpreter"


def find_program(name):
    beside = os.path.join(os.path.dirname(os.environ.get("DEEPSCALE_TORCH_PYTHON", os.path.join(PEERS, "python"))), name)
    return beside if os.access(beside, os.X_OK) else shutil.which(name)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def skip_all(why):
    print(f"skipped: {why}")
    sys.exit(SKIPPED)


def run(command, seconds=120, **variables):
    """Its result, as text; the environment is ours without a place in another job, and `variables`."""
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")}
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, timeout=seconds, check=False,
                          env=environment | variables)


def main(loader):
    unittest.main(module=loader, argv=sys.argv[:1], verbosity=2)
