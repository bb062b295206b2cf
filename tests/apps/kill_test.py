"""kill -9 at random moments, then the same command again: nothing lost, nothing done twice, the same bits.

ATTNSCALE_KILLS says how often (default 6; the claim of the documentation is made with 50).
"""

import hashlib
import os
import random
import signal
import subprocess
import time
import unittest

from program import PROGRAM, TINY, ProgramTest, rows, stable, write_spec

KILLS = int(os.environ.get("ATTNSCALE_KILLS", "6"))


def contents(folder):
    """What must be equal bit for bit: logs and final weights of every run."""
    result = {}
    for path, _, files in os.walk(os.path.join(folder, "runs")):
        for name in files:
            if name == "log.jsonl" or name == "model.safetensors":
                with open(os.path.join(path, name), "rb") as file:
                    result[os.path.relpath(os.path.join(path, name), folder)] = hashlib.sha256(file.read()).hexdigest()
    return result


def finished(folder):
    """Run id -> identity of its result file, which changes when a run is done again."""
    result = {}
    runs = os.path.join(folder, "runs")
    for run in os.listdir(runs) if os.path.isdir(runs) else []:
        path = os.path.join(runs, run, "result.json")
        if os.path.exists(path):
            result[run] = (os.stat(path).st_ino, os.stat(path).st_mtime_ns)
    return result


class Kills(ProgramTest):
    def setUp(self):
        super().setUp()
        spec = dict(TINY)
        spec["base"] = {**TINY["base"], "train": {**TINY["base"]["train"], "steps": 400, "checkpoint_every": 25,
                                                  "eval_every": 100}}
        self.spec = write_spec(self.folder, spec)
        calm = self.run_here("sweep", self.spec, "--out", "calm", timeout=600)
        self.assertEqual(calm.returncode, 0, calm.stderr)
        self.calm = os.path.join(self.folder, "calm")
        begin = time.monotonic()
        subprocess.run([PROGRAM, "--version"], stdout=subprocess.DEVNULL)
        self.start_up = time.monotonic() - begin
        self.rng = random.Random(7)

    def interrupt(self, out, signals):
        """Starts the sweep and sends a signal at a random moment. True if the signal came before the end."""
        sweep = subprocess.Popen([PROGRAM, "sweep", self.spec, "--out", out], cwd=self.folder, stdin=subprocess.DEVNULL,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            sweep.wait(self.start_up * self.rng.uniform(1, 6))
        except subprocess.TimeoutExpired:
            sweep.send_signal(self.rng.choice(signals))
            self.assertIn(sweep.wait(60), (-signal.SIGKILL, 75, 0), "a stopped sweep says so, or had just ended")
            return True
        self.assertEqual(sweep.returncode, 0)
        return False

    def storm(self, out, signals, kills):
        """Interrupts one sweep until it is through or `kills` are spent, then lets it end. How many there were."""
        killed, known = 0, {}
        while killed < kills and self.interrupt(out, signals):
            killed += 1
            now = finished(out)
            for run, identity in known.items():
                self.assertEqual(now.get(run), identity, "a finished run was done again or lost")
            known = now
        last = self.run_here("sweep", self.spec, "--out", out, timeout=600)
        self.assertEqual(last.returncode, 0, last.stderr)
        for run, identity in known.items():
            self.assertEqual(finished(out).get(run), identity, "a finished run was done again")
        self.assertEqual(list(map(stable, rows(os.path.join(self.calm, "results.jsonl")))),
                         list(map(stable, rows(os.path.join(out, "results.jsonl")))))
        self.assertEqual(contents(self.calm), contents(out))
        return killed

    def disturb(self, signals, kills):
        killed = sweeps = 0
        while killed < kills:
            killed += self.storm(os.path.join(self.folder, f"stormy-{sweeps}"), signals, kills - killed)
            sweeps += 1
            self.assertLess(sweeps, 10 * kills, "the sweep ends before it can be interrupted")
        print(f"{killed} interruptions of {sweeps} sweeps, each equal to the undisturbed one bit for bit")

    def test_kill_9_at_random_moments(self):
        self.disturb([signal.SIGKILL], KILLS)

    def test_signals_that_ask_to_stop_end_with_75_and_go_on(self):
        self.disturb([signal.SIGINT, signal.SIGTERM, signal.SIGUSR1], min(KILLS, 3))


if __name__ == "__main__":
    unittest.main()
