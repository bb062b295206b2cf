"""kill -9, a full disk and a broken one at system calls of a four-run sweep: oracle O of docs/reference/faults.md.

fault_at_call counts the calls of all the sweep's processes that change what the disk holds, and makes the Nth go wrong.
ATTNSCALE_EVERY says which N: 1 all, k each k-th (default 40), from ATTNSCALE_FIRST (default: a place of its own for each
fault). Prints the counts.
"""

import hashlib
import json
import os
import shutil
import subprocess
import unittest

from kill_test import PATIENCE, contents
from program import PROGRAM, TINY, ProgramTest, rows, stable, write_spec

EVERY = int(os.environ.get("ATTNSCALE_EVERY", "40"))
FIRST = int(os.environ.get("ATTNSCALE_FIRST", "0"))
FAULT_AT_CALL = os.environ.get("ATTNSCALE_FAULT_AT_CALL", "")
WHERE_ROOM_IS_NEEDED = ("write", "openat", "mkdir")


def may_trace():
    return os.path.exists(FAULT_AT_CALL) and subprocess.run([FAULT_AT_CALL, "--", "true"]).returncode == 0


@unittest.skipUnless(may_trace(), "fault_at_call was not built (Linux on x86-64 only), or may not trace here")
class SystemCalls(ProgramTest):
    def setUp(self):
        super().setUp()
        train = {**TINY["base"]["train"], "steps": 6, "eval_every": 6, "eval_tokens": 64, "checkpoint_every": 2}
        self.spec = write_spec(self.folder, {**TINY, "base": {**TINY["base"], "train": train}, "seeds": 1})
        calm = self.run_here("sweep", self.spec, "--out", "calm", "--jobs", "1", timeout=PATIENCE)
        self.assertEqual(calm.returncode, 0, calm.stderr)
        self.calm = os.path.join(self.folder, "calm")
        self.expected = list(map(stable, rows(os.path.join(self.calm, "results.jsonl"))))

    def disturbed(self, *options):
        """The sweep with a fault: its process, and what fault_at_call reports."""
        report = os.path.join(self.folder, "report.json")
        out = os.path.join(self.folder, "out")
        done = subprocess.run([FAULT_AT_CALL, "--below", out, "--report", report, *options, "--",
                               PROGRAM, "sweep", self.spec, "--out", out, "--jobs", "1"],
                              cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, text=True, errors="replace", timeout=PATIENCE)
        self.assertNotEqual(done.returncode, 125, done.stderr)
        with open(report) as file:
            return done, json.load(file)

    def finish(self, where):
        """The same command, without disturbance."""
        again = self.run_here("sweep", self.spec, "--out", "out", "--jobs", "1", timeout=PATIENCE)
        self.assertEqual(again.returncode, 0, f"{where}: {again.stderr}")
        path = os.path.join(self.folder, "out")
        self.assertEqual(list(map(stable, rows(os.path.join(path, "results.jsonl")))), self.expected, where)
        self.assertEqual(contents(path), contents(self.calm), where)
        check = self.run_here("fsck", "out")
        self.assertEqual(check.returncode, 0, f"{where}: {check.stdout}{check.stderr}")
        shutil.rmtree(path)

    def at_each_call(self, fault, statuses, calls=()):
        """Does it at every EVERYth call, and makes it good. How often it happened, of how many calls."""
        options = ["--do", fault, *(["--calls", ",".join(calls)] if calls else [])]
        calm, counted = self.disturbed(*options)
        self.assertEqual(calm.returncode, 0, calm.stderr)
        shutil.rmtree(os.path.join(self.folder, "out"))
        first = FIRST or 1 + int(hashlib.sha256(fault.encode()).hexdigest(), 16) % min(EVERY, counted["total"])
        faults = 0
        for number in range(first, counted["total"] + 1, EVERY):
            done, report = self.disturbed(*options, "--number", str(number))
            where = f"{fault} at call {number} of {counted['total']}, {report['fault']}"
            happened = report["fault"] != ""  # no two sweeps make quite as many calls
            expected = statuses if happened else (0,)
            if "/.doctor-" in report["fault"]:
                expected = (*statuses, 0)  # files in which the folder is tried out beforehand hold nothing of the sweep
            self.assertIn(done.returncode, expected, f"{where}: {done.stderr}")
            faults += happened
            self.finish(where)
            if faults and faults % 50 == 0:
                print(f"{where}: {faults} faults made good so far", flush=True)
        kinds = ", ".join(f"{count} {call}" for call, count in counted["calls"].items())
        print(f"{fault} at {faults} of {counted['total']} system calls ({kinds}; every {EVERY}th from {first}) of a four-run "
              "sweep: 0 violations of oracle O", flush=True)
        self.assertGreater(faults, 0.9 * (counted["total"] - first) / EVERY - 1)

    def test_a_kill_at_each_call_is_made_good_by_the_same_command(self):
        # A worker's death is a run's, which the sweep survives: then this is 1.
        self.at_each_call("kill", (137, 1, 0))

    def test_a_disk_that_fills_at_each_write_is_status_74_and_resumes_when_there_is_room(self):
        self.at_each_call("ENOSPC", (74,), WHERE_ROOM_IS_NEEDED)

    def test_an_fsync_that_fails_is_never_taken_for_success(self):
        self.at_each_call("EIO", (74,), ("fsync",))


if __name__ == "__main__":
    unittest.main()
