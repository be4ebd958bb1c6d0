"""Runs when Python starts below `deepscale launch`: on SIGQUIT a rank prints the stacks of its threads, as --heartbeat_timeout asks of ranks
that hang. Then whatever sitecustomize there would be without this one."""
import importlib.machinery
import importlib.util
import os
import sys


def _print_stacks_on_request():
    import faulthandler
    import signal
    quit_signal = getattr(signal, "SIGQUIT", None)
    if "DEEPSCALE_AGENT" in os.environ and quit_signal and signal.getsignal(quit_signal) == signal.SIG_DFL:
        faulthandler.register(quit_signal, file=2, all_threads=True)


def _run_the_other_one():
    own = os.path.dirname(os.path.abspath(__file__))
    others = [folder for folder in sys.path if os.path.abspath(folder) != own]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec and spec.loader:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


_print_stacks_on_request()
_run_the_other_one()
