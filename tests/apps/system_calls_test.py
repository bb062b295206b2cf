"""kill -9 at system calls of a four-run sweep, and errors of fsync: the same command again ends with the same bits.

strace kills the sweep's process, or a worker's, as it makes its Nth call of a kind. ATTNSCALE_EVERY says which N: 1 all,
k each k-th from a place of its own for each kind (default 40).
"""

import hashlib
import os
import re
import shutil
import subprocess
import unittest

from kill_test import contents
from program import PROGRAM, TINY, ProgramTest, rows, stable, write_spec

EVERY = int(os.environ.get("ATTNSCALE_EVERY", "40"))
KINDS = ("write", "fsync", "rename", "openat", "unlink", "unlinkat", "mkdir", "ftruncate", "rmdir", "copy_file_range")


def strace_works():
    if not shutil.which("strace"):
        return False
    probe = subprocess.run(["strace", "-qq", "-o", "/dev/null", "-e", "inject=fsync:signal=KILL:when=1", "true"],
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return probe.returncode == 0


@unittest.skipUnless(strace_works(), "strace is not installed, or may not trace here (Debian: strace)")
class SystemCalls(ProgramTest):
    def setUp(self):
        super().setUp()
        train = {**TINY["base"]["train"], "steps": 20, "eval_every": 10, "eval_tokens": 128, "checkpoint_every": 10}
        spec = {**TINY, "base": {**TINY["base"], "train": train}, "seeds": 1}
        self.spec = write_spec(self.folder, spec)
        calm = self.run_here("sweep", self.spec, "--out", "calm", "--jobs", "1", timeout=300)
        self.assertEqual(calm.returncode, 0, calm.stderr)
        self.calm = os.path.join(self.folder, "calm")
        self.expected = list(map(stable, rows(os.path.join(self.calm, "results.jsonl"))))

    def traced(self, *strace, out):
        return subprocess.run(["strace", "-qq", *strace, PROGRAM, "sweep", self.spec, "--out", out, "--jobs", "1"],
                              cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, text=True, timeout=300)

    def counts(self, *threads):
        """How many calls of each kind the busiest of the traced threads makes."""
        log = os.path.join(self.folder, "calls")
        done = self.traced("-o", log, *threads, "-e", "trace=" + ",".join(KINDS), out="counted")
        self.assertEqual(done.returncode, 0, done.stderr)
        shutil.rmtree(os.path.join(self.folder, "counted"))
        most = {}
        with open(log, errors="replace") as file:
            for line in file:
                if found := re.match(r"(?:(\d+) +)?(\w+)\(", line):
                    most[found[2], found[1]] = most.get((found[2], found[1]), 0) + 1
        result = {kind: max((count for (name, _), count in most.items() if name == kind), default=0) for kind in KINDS}
        return {kind: count for kind, count in result.items() if count > 0}

    def finish(self, out, where):
        """The same command, without disturbance."""
        again = self.run_here("sweep", self.spec, "--out", out, "--jobs", "1", timeout=300)
        self.assertEqual(again.returncode, 0, f"{where}: {again.stderr}")
        path = os.path.join(self.folder, out)
        self.assertEqual(list(map(stable, rows(os.path.join(path, "results.jsonl")))), self.expected, where)
        self.assertEqual(contents(path), contents(self.calm), where)
        check = self.run_here("fsck", out)
        self.assertEqual(check.returncode, 0, f"{where}: {check.stdout}{check.stderr}")
        shutil.rmtree(path)

    def kill_at_each(self, whose, *threads):
        counts = self.counts(*threads)
        kills = 0
        for kind, most in counts.items():
            begin = int(hashlib.sha256((whose + kind).encode()).hexdigest(), 16) % min(EVERY, most)
            for number in range(1 + begin, most + 1, EVERY):
                done = self.traced("-o", "/dev/null", *threads, "-e", f"trace={kind}", "-e",
                                   f"inject={kind}:signal=KILL:when={number}", out="killed")
                # A worker's death is a run's, which the sweep survives: then this is 1. Not every sweep makes the last calls.
                self.assertIn(done.returncode, (-9, 137, 1, 0), f"{whose}, {kind} {number}: {done.stderr}")
                kills += done.returncode != 0
                self.finish("killed", f"{whose} killed at {kind} number {number}")
        print(f"{kills} kills of {whose} at system calls ({', '.join(f'{n} {kind}' for kind, n in counts.items())}; "
              f"every {EVERY}th), each made good")
        self.assertGreater(kills, len(counts) / 2)

    def test_a_kill_at_each_call_is_made_good_by_the_same_command(self):
        self.kill_at_each("the sweep or its worker, whichever comes first", "-f")

    def test_a_kill_of_the_sweep_alone_is_made_good_by_the_same_command(self):
        self.kill_at_each("the sweep")

    def test_an_fsync_that_fails_is_never_taken_for_success(self):
        most = self.counts("-f")["fsync"]
        refused = 0
        for number in range(1, most + 1, max(1, EVERY // 2)):
            done = self.traced("-f", "-o", "/dev/null", "-e", "trace=fsync", "-e", f"inject=fsync:error=EIO:when={number}",
                               out="failed")
            self.assertEqual(done.returncode, 74, f"fsync {number}: {done.stderr}")
            self.assertIn("Input/output error", done.stderr)
            refused += 1
            self.finish("failed", f"EIO at fsync number {number}")
        print(f"{refused} of {most} calls of fsync failed, each was told and made good")


if __name__ == "__main__":
    unittest.main()
