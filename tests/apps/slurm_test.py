"""A sweep by a real SLURM, which the test starts itself: arrays, preemption, requeue. Skipped where SLURM is not installed.

ATTNSCALE_SLURM_RUNS says how many runs the array has (default 12; the claim of the documentation is made with 40).
"""

import glob
import json
import os
import re
import subprocess
import time
import unittest

from program import PROGRAM, TINY, ProgramTest, rows, stable, write_spec
from slurm_cluster import Cluster, missing

RUNS = int(os.environ.get("ATTNSCALE_SLURM_RUNS", "12"))
CPUS = 4


@unittest.skipIf(missing(), missing())
class Slurm(ProgramTest):
    def setUp(self):
        super().setUp()
        self.cluster = Cluster(os.path.join(self.folder, "cluster"), cpus=CPUS, max_array=max(3, RUNS // 2 + 1))
        self.addCleanup(self.cluster.stop)

    def sweep(self, *more, status=0):
        done = self.run_here("sweep", self.spec, "--out", "out", "--executor", "slurm", *more,
                             env=self.cluster.environment, timeout=300)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def queue(self):
        """State by task."""
        lines = self.cluster.ask("squeue", "-h", "-r", "-p", "low", "-o", "%F_%K %T").split("\n")
        return dict(line.split() for line in lines if line)

    def tokens(self):
        found = {}
        for path in glob.glob(os.path.join(self.folder, "out", "runs", "*", "lease-*")):
            found[path.split(os.sep)[-2]] = int(path.rsplit("-", 1)[1])
        return found

    def preempt(self):
        """A job of higher priority takes all processors for a moment."""
        script = os.path.join(self.folder, "urgent.sh")
        with open(script, "w") as file:
            file.write("#!/bin/bash\nsleep 0.2\n")
        self.cluster.ask("sbatch", "--wait", "--partition=high", f"--ntasks={CPUS}", "--output=/dev/null", script)

    def begin_again(self):
        """SLURM lets a requeued task wait two minutes; the test does not."""
        for task, state in self.queue().items():
            if state == "PENDING":
                self.cluster.ask("scontrol", "update", f"JobId={task}", "StartTime=now", check=False)

    def test_an_array_with_a_third_of_its_tasks_preempted_ends_as_the_local_sweep(self):
        train = {**TINY["base"]["train"], "steps": 3000, "checkpoint_every": 50, "eval_every": 1000}
        self.spec = write_spec(self.folder, {"name": "by-slurm", "base": {**TINY["base"], "train": train},
                                             "seeds": RUNS})
        said = self.sweep("--sbatch=--partition=low", "--lease", "2")
        jobs = re.search(r"submitted as job (\d+), (\d+)", said)
        self.assertTrue(jobs, said)  # more runs than one array may have
        self.assertIn("0 submitted", self.sweep("--sbatch=--partition=low"))  # all are in the queue, or done
        self.assertRegex(self.sweep("--status"), rf"^\d+ of {RUNS} runs have ended, \d+ ")

        deadline = time.monotonic() + 1500
        preempted = 0
        while self.queue():
            self.assertLess(time.monotonic(), deadline, self.sweep("--status"))
            running = [task for task, state in self.queue().items() if state == "RUNNING"]
            saved = glob.glob(os.path.join(self.folder, "out", "runs", "*", "checkpoint", "step-*"))
            if preempted < RUNS / 3 and len(running) >= min(CPUS, 2) and len(saved) > 0:
                self.preempt()
                time.sleep(0.5)
                waiting = self.cluster.ask("squeue", "-h", "-r", "-p", "low", "-o", "%F_%K %T")
                preempted += sum(self.restarts(line.split()[0]) for line in waiting.split("\n") if line
                                 and line.split()[0] in running)
            self.begin_again()
            time.sleep(0.5)
        self.assertGreaterEqual(preempted, RUNS / 3)

        self.assertRegex(self.sweep("--status"), rf"^{RUNS} of {RUNS} runs have ended$")
        self.assertIn(f"{RUNS} of {RUNS} runs have ended", self.sweep("--collect"))
        again = sum(token > 1 for token in self.tokens().values())
        print(f"{RUNS} runs in arrays {jobs[1]} and {jobs[2]}, {preempted} tasks preempted, {again} runs begun again")
        self.assertGreater(again, 0, "no preempted task had begun its run")

        alone = self.run_here("sweep", self.spec, "--out", "alone", timeout=900)
        self.assertEqual(alone.returncode, 0, alone.stderr)
        self.assertEqual(list(map(stable, rows(os.path.join(self.folder, "alone", "results.jsonl")))),
                         list(map(stable, rows(os.path.join(self.folder, "out", "results.jsonl")))))
        for log in glob.glob(os.path.join(self.folder, "alone", "runs", "*", "log.jsonl")):
            with open(log, "rb") as one, open(log.replace("/alone/", "/out/"), "rb") as other:
                self.assertEqual(one.read(), other.read(), log)
            weights = os.path.join("checkpoint", "step-3000", "model.safetensors")
            with open(os.path.join(os.path.dirname(log), weights), "rb") as one, \
                    open(os.path.join(os.path.dirname(log).replace("/alone/", "/out/"), weights), "rb") as other:
                self.assertEqual(one.read(), other.read(), log)
        check = self.run_here("fsck", "out")
        self.assertEqual(check.returncode, 0, check.stdout + check.stderr)

    def restarts(self, task):
        found = re.search(r"Restarts=(\d+)", self.cluster.ask("scontrol", "show", "job", task, check=False))
        return int(found[1]) > 0 if found else 0

    def test_the_tasks_of_an_array_decide_together_whose_run_is_stopped_early(self):
        train = {**TINY["base"]["train"], "steps": 200, "eval_every": 20, "eval_tokens": 128}
        self.spec = write_spec(self.folder, {"name": "stopped", "base": {**TINY["base"], "train": train},
                                             "grid": {"train.learning_rate": [0.01, 0.003, 3.0, 0.0001, 0.03, 1.0]},
                                             "stopping": {"rule": "asha", "first": 20, "reduction": 2}})
        self.sweep("--sbatch=--partition=low")
        deadline = time.monotonic() + 600
        while self.queue():
            self.assertLess(time.monotonic(), deadline, self.sweep("--status"))
            self.begin_again()
            time.sleep(0.5)
        found = re.search(r"^6 of 6 runs have ended \((\d) stopped\)$", self.sweep("--status"), re.M)
        self.assertTrue(found, self.sweep("--status"))
        self.assertIn(f"{found[1]} of 6 runs were stopped early", self.sweep("--collect"))
        (ledger,) = glob.glob(os.path.join(self.folder, "out", "stopping", "*", "decisions.json"))
        with open(ledger) as file:
            decisions = json.load(file)["decisions"]
        self.assertEqual(len({one["run"] for one in decisions}), 6)
        self.assertEqual(sum(not one["goes_on"] for one in decisions), int(found[1]))
        check = self.run_here("fsck", "out")  # which decides everything once more
        self.assertEqual(check.returncode, 0, check.stdout + check.stderr)

    def test_a_task_whose_time_is_about_to_end_saves_and_is_queued_again(self):
        train = {**TINY["base"]["train"], "steps": 1000000000, "checkpoint_every": 0, "eval_every": 1000000000}
        self.spec = write_spec(self.folder, {"name": "long", "base": {**TINY["base"], "train": train}})
        # Two minutes, of which the notice leaves a few seconds; SLURM sends it up to a minute early.
        self.sweep("--sbatch=--partition=low", "--sbatch=--time=2", "--notice", "60")
        deadline = time.monotonic() + 200
        outs = os.path.join(self.folder, "out", "slurm", "*_0.out")
        while time.monotonic() < deadline:
            said = ""
            for path in glob.glob(outs):
                with open(path) as file:
                    said += file.read()
            if "interrupted" in said:
                break
            time.sleep(0.5)
        else:
            self.fail("the task was not told that its time ends: " + said)
        time.sleep(2)
        self.assertEqual(list(self.queue().values()), ["PENDING"], "put back into the queue")
        self.assertEqual(len(glob.glob(os.path.join(self.folder, "out", "runs", "*", "checkpoint", "step-*"))), 1)
        self.assertRegex(self.sweep("--status"), r"^0 of 1 runs have ended, 1 pending$")
        self.assertIn("no run has ended yet", self.sweep("--collect", status=75))


class WithoutSlurm(ProgramTest):
    def test_what_is_missing_is_said(self):
        spec = write_spec(self.folder, TINY)
        done = self.run_here("sweep", spec, "--executor", "slurm", env={**os.environ, "PATH": "/nowhere"})
        self.assertEqual(done.returncode, 74)
        self.assertIn("scontrol: no such command here; --executor slurm needs a host that submits to SLURM", done.stderr)

    def cluster_of_scripts(self, seconds_to_submit=0):
        """SLURM's commands as scripts that answer and do nothing. `sbatch` counts its calls."""
        place = os.path.join(self.folder, "commands")
        os.mkdir(place)
        for name, script in (("scontrol", "echo 'MaxArraySize = 100'"), ("squeue", "true"),
                             ("sbatch", f"echo >> {place}/calls; sleep {seconds_to_submit}; echo 7")):
            with open(os.path.join(place, name), "w") as file:
                file.write(f"#!/bin/sh\n{script}\n")
            os.chmod(file.name, 0o755)
        return {**os.environ, "PATH": place + ":" + os.environ["PATH"]}

    def test_runs_that_failed_have_ended(self):
        environment = self.cluster_of_scripts()
        spec = write_spec(self.folder, TINY)
        words = ("sweep", spec, "--out", "out", "--executor", "slurm")
        self.assertEqual(self.run_here(*words, env=environment).returncode, 0)
        with open(os.path.join(self.folder, "out", "plan.json")) as file:
            run = json.load(file)["runs"][0]["id"]
        os.makedirs(os.path.join(self.folder, "out", "runs", run))
        with open(os.path.join(self.folder, "out", "runs", run, "result.json"), "w") as file:
            json.dump({"id": run, "status": "failed", "message": "no"}, file)
        status = self.run_here(*words, "--status", env=environment)
        self.assertEqual(status.stdout, "1 of 8 runs have ended (1 failed), 7 not in the queue\n", status.stderr)

    def test_of_two_submissions_at_once_one_is_refused(self):
        environment = self.cluster_of_scripts(seconds_to_submit=8)
        spec = write_spec(self.folder, TINY)
        words = ("sweep", spec, "--out", "out", "--executor", "slurm")
        first = subprocess.Popen([PROGRAM, *words], cwd=self.folder, env=environment, stdin=subprocess.DEVNULL,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(first.kill)
        calls = os.path.join(self.folder, "commands", "calls")
        deadline = time.monotonic() + 60
        while not os.path.exists(calls) and time.monotonic() < deadline:
            time.sleep(0.05)
        second = self.run_here(*words, env=environment)
        self.assertEqual(second.returncode, 74, second.stderr)
        self.assertIn("is at work in this folder; wait for it", second.stderr)
        self.assertEqual(first.wait(60), 0)
        with open(calls) as file:
            self.assertEqual(len(file.readlines()), 1)

    def test_options_that_do_nothing_together_are_refused(self):
        spec = write_spec(self.folder, TINY)
        for words, said in ((("--status",), "need --executor slurm"), (("--sbatch=-x",), "need --executor slurm"),
                            (("--executor", "slurm", "--status", "--collect"), "take one")):
            done = self.run_here("sweep", spec, *words)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(said, done.stderr)


if __name__ == "__main__":
    unittest.main()
