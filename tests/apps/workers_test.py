"""Several processes, started by hand on one folder: each run exactly once, also when one sleeps and wakes again."""

import glob
import json
import os
import signal
import subprocess
import time
import unittest

from program import PROGRAM, TINY, ProgramTest, rows, stable, write_spec

PROCESSES = int(os.environ.get("ATTNSCALE_PROCESSES", "3"))
RUNS = int(os.environ.get("ATTNSCALE_RUNS", "24"))


def spec(runs, **train):
    base = {**TINY["base"], "train": {**TINY["base"]["train"], "steps": 20, "eval_every": 10, "eval_tokens": 128,
                                      "checkpoint_every": 10, **train}}
    return {"name": "shared", "base": base, "seeds": runs}


class Workers(ProgramTest):
    def start(self, path, out, *more):
        log = open(os.path.join(self.folder, f"stderr-{len(glob.glob(self.folder + '/stderr-*'))}"), "w+")
        process = subprocess.Popen([PROGRAM, "sweep", path, "--out", out, "--jobs", "1", *more], cwd=self.folder,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log)
        process.log = log.name
        self.addCleanup(log.close)
        self.addCleanup(process.kill)
        return process

    def finish(self, processes):
        for process in processes:
            self.assertEqual(process.wait(900), 0, self.said(process))

    def said(self, process):
        with open(process.log) as file:
            return file.read()

    def leases(self, out):
        """Run id -> the highest token, and who had it."""
        found = {}
        for path in glob.glob(os.path.join(self.folder, out, "runs", "*", "lease-*", "owner.json")):
            with open(path) as file:
                found[path.split(os.sep)[-3]] = (int(path.split(os.sep)[-2].split("-")[1]), json.load(file))
        return found

    def compare_with_one(self, path, out):
        alone = self.run_here("sweep", path, "--out", "alone", "--jobs", "1", timeout=900)
        self.assertEqual(alone.returncode, 0, alone.stderr)
        self.assertEqual(list(map(stable, rows(os.path.join(self.folder, "alone", "results.jsonl")))),
                         list(map(stable, rows(os.path.join(self.folder, out, "results.jsonl")))))
        for log in glob.glob(os.path.join(self.folder, "alone", "runs", "*", "log.jsonl")):
            with open(log, "rb") as one, open(log.replace("/alone/", f"/{out}/"), "rb") as other:
                self.assertEqual(one.read(), other.read(), log)
        check = self.run_here("fsck", out)
        self.assertEqual(check.returncode, 0, check.stdout + check.stderr)

    def test_many_processes_on_one_folder_do_each_run_exactly_once(self):
        path = write_spec(self.folder, spec(RUNS))
        processes = [self.start(path, "out") for _ in range(PROCESSES)]
        self.each_run_once_until_ended("out", processes)
        self.finish(processes)
        self.assertEqual(len(glob.glob(os.path.join(self.folder, "out", "runs", "*", "result.json"))), RUNS)
        hands = {owner["process"] for _, owner in self.leases("out").values()}
        self.assertGreater(len(hands), 1, "one process did everything")
        print(f"{RUNS} runs, each once, by {len(hands)} of {PROCESSES} processes")
        self.compare_with_one(path, "out")

    def test_a_process_that_sleeps_longer_than_its_lease_loses_the_run_and_its_writes_are_refused(self):
        path = write_spec(self.folder, spec(2, steps=3000, checkpoint_every=100, eval_every=1000))
        sleeper = self.start(path, "out", "--lease", "2")
        checkpoints = os.path.join(self.folder, "out", "runs", "*", "checkpoint", "step-*")
        deadline = time.monotonic() + 120
        while not glob.glob(checkpoints) and time.monotonic() < deadline:
            time.sleep(0.02)
        run, (token, owner) = next(iter(self.leases("out").items()))
        self.assertEqual(token, 1)
        os.kill(sleeper.pid, signal.SIGSTOP)
        os.kill(owner["process"], signal.SIGSTOP)
        # A process of this host that only sleeps is not dead: the lease has to run out.
        other = self.start(path, "out", "--lease", "2")
        while self.leases("out")[run][0] == 1 and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertEqual(self.leases("out")[run][0], 2, self.said(other))
        os.kill(owner["process"], signal.SIGCONT)
        notes = os.path.join(self.folder, "out", "runs", run, "worker.log")
        while time.monotonic() < deadline:
            with open(notes) as file:
                if "another process has taken this over" in file.read():
                    break
            time.sleep(0.05)
        else:
            self.fail("the one that woke did not notice")
        os.kill(sleeper.pid, signal.SIGCONT)
        self.finish([sleeper, other])
        self.assertIn("has given no sign of life for 2 s: taken over", self.said(other))
        self.assertIn("another process has taken this over", self.said(sleeper))
        self.assertEqual(self.leases("out")[run][0], 2)
        self.compare_with_one(path, "out")

    def wait_for(self, condition, what, seconds=120):
        deadline = time.monotonic() + seconds
        while not condition():
            self.assertLess(time.monotonic(), deadline, what)
            time.sleep(0.02)

    def saved_runs(self, out):
        return {path.split(os.sep)[-3] for path in
                glob.glob(os.path.join(self.folder, out, "runs", "*", "checkpoint", "step-*"))}

    def statuses(self, out):
        """As each run's own file and as the table have them, sorted."""
        results = []
        for path in glob.glob(os.path.join(self.folder, out, "runs", "*", "result.json")):
            with open(path) as file:
                results.append(json.load(file)["status"])
        table = [row["status"] for row in rows(os.path.join(self.folder, out, "results.jsonl"))]
        return sorted(results), sorted(table)

    def test_a_sweep_that_wakes_keeps_what_another_made_of_the_run_whose_worker_died_meanwhile(self):
        path = write_spec(self.folder, spec(1, steps=2000, checkpoint_every=20, eval_every=2000))
        sleeper = self.start(path, "out", "--lease", "2")
        self.wait_for(lambda: self.saved_runs("out"), "no checkpoint")
        worker = next(iter(self.leases("out").values()))[1]["process"]
        os.kill(sleeper.pid, signal.SIGSTOP)
        os.kill(worker, signal.SIGKILL)
        other = self.start(path, "out", "--lease", "2")
        self.finish([other])
        self.assertEqual(self.statuses("out")[0], ["done"])
        os.kill(sleeper.pid, signal.SIGCONT)
        self.finish([sleeper])
        self.assertEqual(self.statuses("out"), (["done"], ["done"]))
        self.compare_with_one(path, "out")

    def test_a_sweep_whose_only_worker_died_still_does_the_run_that_another_left(self):
        path = write_spec(self.folder, spec(2, steps=8000, checkpoint_every=20, eval_every=8000))
        other = self.start(path, "out", "--lease", "2")
        self.wait_for(lambda: len(self.saved_runs("out")) == 1, "the first began nothing")
        (first,) = self.saved_runs("out")
        sweep = self.start(path, "out", "--lease", "2")
        self.wait_for(lambda: len(self.saved_runs("out")) == 2, "the second began nothing")
        (worker,) = (owner["process"] for run, (_, owner) in self.leases("out").items() if run != first)
        os.kill(worker, signal.SIGKILL)
        self.wait_for(lambda: "oom" in self.said(sweep) or glob.glob(
            os.path.join(self.folder, "out", "runs", "*", "result.json")), "its death was not noticed")
        other.kill()
        self.assertEqual(sweep.wait(300), 1, self.said(sweep))
        self.assertEqual(self.statuses("out"), (["done", "oom"], ["done", "oom"]))

    def test_train_goes_on_after_a_power_cut(self):
        path = write_spec(self.folder, {**spec(1, steps=4000, checkpoint_every=20, eval_every=4000), "seeds": 1})
        first = subprocess.Popen([PROGRAM, "train", path, "--out", "out"], cwd=self.folder, stdin=subprocess.DEVNULL,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.wait_for(lambda: self.saved_runs("out"), "no checkpoint")
        first.kill()
        first.wait()
        # The host has been started anew since: whether the holders live cannot be known.
        for place in glob.glob(os.path.join(self.folder, "out", "**", "lease-1", "owner.json"), recursive=True):
            with open(place) as file:
                owner = json.load(file)
            with open(place, "w") as file:
                json.dump({**owner, "host_key": "before/1", "seconds": 3}, file)
        again = self.run_here("train", path, "--out", "out", timeout=600)
        self.assertEqual(again.returncode, 0, again.stderr)
        self.assertIn("waiting for its end, or 3 s without a sign of life", again.stderr)
        self.assertEqual(self.statuses("out"), (["done"], ["done"]))

    def test_another_plan_is_refused_while_a_sweep_is_at_work(self):
        first = self.start(write_spec(self.folder, spec(2, steps=10**6)), "out")
        deadline = time.monotonic() + 60
        while not glob.glob(os.path.join(self.folder, "out", "runs", "*", "lease-*")) and time.monotonic() < deadline:
            time.sleep(0.05)
        second = self.run_here("sweep", write_spec(self.folder, spec(3), "other.json"), "--out", "out")
        self.assertEqual(second.returncode, 74)
        self.assertRegex(second.stderr, r"another attnscale \(\S+, process \d+\) is at work in this folder with another")
        first.send_signal(signal.SIGTERM)
        self.assertEqual(first.wait(120), 75)


if __name__ == "__main__":
    unittest.main()
