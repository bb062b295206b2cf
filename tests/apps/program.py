"""Runs the program as a user would. Standard library only."""

import glob
import json
import os
import subprocess
import sys
import tempfile
import time
import unittest

PROGRAM = os.environ["ATTNSCALE_PROGRAM"]
SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

TINY = {
    "name": "tiny",
    "base": {
        "model": {"depth": 1, "model_dim": 8, "num_heads": 1},
        "data": {"source": "zipf_memory", "num_keys": 32, "num_labels": 4, "context": 16},
        "train": {"steps": 60, "batch_size": 4, "warmup_steps": 5, "eval_every": 20, "eval_tokens": 512,
                  "checkpoint_every": 20},
    },
    "grid": {"model.depth": [1, 2], "attention": [{"variant": "softmax"}, {"variant": "linear"}]},
    "seeds": 2,
}


def run(*arguments, **options):
    """The finished process, with text streams and a time limit."""
    options.setdefault("timeout", 120)
    options.setdefault("stdout", subprocess.PIPE)
    options.setdefault("stderr", subprocess.PIPE)
    return subprocess.run([PROGRAM, *map(str, arguments)], text=True, stdin=subprocess.DEVNULL, **options)


def write_spec(folder, spec, name="spec.json"):
    path = os.path.join(folder, name)
    with open(path, "w") as file:
        json.dump(spec, file, indent=1)
    return path


class ProgramTest(unittest.TestCase):
    """A test with a scratch folder as working folder."""

    def setUp(self):
        self._scratch = tempfile.TemporaryDirectory(prefix="attnscale-test-")
        self.folder = self._scratch.name
        self.addCleanup(self._scratch.cleanup)

    def run_here(self, *arguments, **options):
        return run(*arguments, cwd=self.folder, **options)

    def each_run_once_until_ended(self, out, processes):
        """Waits for sweeps on one folder. A training begins with a log file of its own and ends with a result file:
        neither may come twice. (A lease may: who comes late finds the result.)"""
        known = {}
        while any(process.poll() is None for process in processes):
            for result in glob.glob(os.path.join(self.folder, out, "runs", "*", "result.json")):
                log = os.path.join(os.path.dirname(result), "log.jsonl")
                files = (os.stat(result).st_ino, os.stat(log).st_ino)
                self.assertEqual(known.setdefault(result, files), files, "a run was done again")
            time.sleep(0.1)


def rows(path):
    with open(path) as file:
        return [json.loads(line) for line in file]


def stable(row):
    """A result without what a clock or a machine writes."""
    return {key: value for key, value in row.items() if key not in ("timing", "provenance")}


if __name__ == "__main__":
    sys.exit("run the tests in this folder with python3 -m unittest")
