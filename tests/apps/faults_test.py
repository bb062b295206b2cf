"""What goes wrong around a sweep: workers that die or hang, damaged files, limits of the disk and of memory."""

import json
import os
import resource
import signal
import subprocess
import time
import unittest

from program import PROGRAM, TINY, ProgramTest, rows, write_spec


def long_spec(**train):
    """One run that outlasts every test and saves often."""
    return {**TINY, "base": {**TINY["base"], "train": {**TINY["base"]["train"], "steps": 10**6, "eval_every": 10**6,
                                                       "checkpoint_every": 50, **train}},
            "grid": {"model.depth": [1]}, "seeds": 1}


def memory_limit():
    """Bytes that this machine, or the control group, gives a process."""
    limit = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGESIZE")
    try:
        with open("/sys/fs/cgroup/memory.max") as file:
            limit = min(limit, int(file.read()))
    except (OSError, ValueError):
        pass
    return limit


class Faults(ProgramTest):
    def start(self, spec, out="out"):
        """A sweep at work: its process and its worker's id, once the run has two checkpoints and one of them is new."""
        before = self.checkpoints(out)[-1:]
        sweep = subprocess.Popen([PROGRAM, "sweep", spec, "--out", out, "--jobs", "1"], cwd=self.folder, text=True,
                                 stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.addCleanup(sweep.stderr.close)
        self.addCleanup(sweep.kill)
        deadline = time.monotonic() + 60
        while len(self.checkpoints(out)) < 2 or self.checkpoints(out)[-1:] == before:
            self.assertLess(time.monotonic(), deadline)
            self.assertIsNone(sweep.poll())
            time.sleep(0.05)
        with open(f"/proc/{sweep.pid}/task/{sweep.pid}/children") as file:
            return sweep, int(file.read().split()[0])

    def checkpoints(self, out="out"):
        found = []
        for path, folders, _ in os.walk(os.path.join(self.folder, out, "runs")):
            if os.path.basename(path) == "checkpoint":
                found += [os.path.join(path, name) for name in folders if name.startswith("step-")]
        return sorted(found, key=lambda path: int(path.rsplit("-", 1)[1]))

    def test_a_stopped_worker_is_named_and_killed_after_a_stop_request(self):
        sweep, worker = self.start(write_spec(self.folder, long_spec()))
        os.kill(worker, signal.SIGSTOP)
        begin = time.monotonic()
        sweep.send_signal(signal.SIGTERM)
        _, messages = sweep.communicate(timeout=60)
        self.assertEqual(sweep.returncode, 75, messages)
        self.assertIn(f"worker {worker} (run ", messages)
        self.assertIn("is stopped and cannot answer: killed", messages)
        self.assertLess(time.monotonic() - begin, 30)

    def test_a_killed_worker_leaves_a_row_that_stays_until_the_run_is_done_anew(self):
        sweep, worker = self.start(write_spec(self.folder, long_spec()))
        os.kill(worker, signal.SIGKILL)
        _, messages = sweep.communicate(timeout=60)
        self.assertEqual(sweep.returncode, 1, messages)
        table = os.path.join(self.folder, "out", "results.jsonl")
        failed = rows(table)
        self.assertEqual([row["status"] for row in failed], ["oom"])
        again, _ = self.start("spec.json")
        again.send_signal(signal.SIGTERM)
        _, messages = again.communicate(timeout=60)
        self.assertIn("ran out of memory; doing this run again", messages)
        self.assertEqual(rows(table), failed)

    def test_a_crashed_worker_is_a_failed_run_with_the_signal_and_the_end_of_its_log(self):
        sweep, worker = self.start(write_spec(self.folder, long_spec()))
        run = os.path.dirname(os.path.dirname(self.checkpoints()[0]))
        with open(os.path.join(run, "worker.log"), "ab") as log:
            log.write(b"first\nthe last \xff\x1bword\n")
        os.kill(worker, signal.SIGSEGV)
        _, messages = sweep.communicate(timeout=60)
        self.assertEqual(sweep.returncode, 1, messages)
        row = rows(os.path.join(self.folder, "out", "results.jsonl"))[0]
        self.assertEqual(row["status"], "failed")
        self.assertIn("killed by signal 11", row["message"])
        self.assertIn("its worker.log ends with: the last ??word", row["message"])
        self.assertIn(row["message"], messages)

    def test_a_damaged_newest_checkpoint_is_said_and_without_a_good_one_the_status_is_65(self):
        spec = write_spec(self.folder, long_spec())
        sweep, _ = self.start(spec)
        sweep.send_signal(signal.SIGTERM)
        sweep.communicate(timeout=60)

        def damage(checkpoint):
            with open(os.path.join(checkpoint, "model.safetensors"), "r+b") as file:
                file.write(b"damaged")

        newest = self.checkpoints()[-1]
        damage(newest)
        again, _ = self.start(spec)
        again.send_signal(signal.SIGTERM)
        _, messages = again.communicate(timeout=60)
        self.assertIn(os.path.join(newest, "model.safetensors")[len(self.folder) + 1:], messages)
        self.assertIn("going on from the checkpoint of step", messages)
        for checkpoint in self.checkpoints():
            damage(checkpoint)
        refused = self.run_here("sweep", spec, "--out", "out")
        self.assertEqual(refused.returncode, 65, refused.stderr)
        self.assertIn("no checkpoint can be used; remove the folder to start this run afresh", refused.stderr)

    def test_a_run_that_ends_badly_with_finite_numbers_is_flagged(self):
        spec = long_spec(steps=30, warmup_steps=0, learning_rate=10, clip_norm=0, eval_every=10)
        done = self.run_here("sweep", write_spec(self.folder, spec), "--out", "out")
        self.assertEqual(done.returncode, 0, done.stderr)
        row = rows(os.path.join(self.folder, "out", "results.jsonl"))[0]
        self.assertEqual(row["status"], "done")
        self.assertIn("worse than guessing uniformly (ln 36", row["flags"][0])
        self.assertIn(row["flags"][0], done.stderr)
        self.assertIn("1 of 1 finished runs are doubtful", done.stderr)

    def test_a_file_size_limit_is_status_74_and_not_a_silent_death(self):
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
        full = self.run_here("sweep", write_spec(self.folder, TINY), "--out", "out", preexec_fn=limit)
        self.assertEqual(full.returncode, 74, full.stderr)
        self.assertIn("File too large", full.stderr)
        again = self.run_here("sweep", "spec.json", "--out", "out")
        self.assertEqual(again.returncode, 0, again.stderr)

    def test_results_of_another_build_are_said_by_plan_and_sweep_and_kept(self):
        spec = write_spec(self.folder, {**TINY, "grid": {"model.depth": [1]}})
        self.run_here("sweep", spec, "--out", "out")
        row = rows(os.path.join(self.folder, "out", "results.jsonl"))[0]
        file = os.path.join(self.folder, "out", "runs", row["id"], "result.json")
        row["provenance"].update(version="0.0.9", commit="feed")
        del row["provenance"]["sha256"]  # an edited row would be taken for a damaged one
        with open(file, "w") as stream:
            json.dump(row, stream)
        expected = "1 of 2 runs are done by version 0.0.9, commit feed"
        planned = self.run_here("plan", spec, "--no-timing", "--out", "out")
        self.assertIn("2 of 2 runs are done already in out", planned.stdout)
        self.assertIn(expected, planned.stdout)
        again = self.run_here("sweep", spec, "--out", "out")
        self.assertIn(expected, again.stderr)
        self.assertEqual(rows(os.path.join(self.folder, "out", "results.jsonl"))[0], row)

    def test_runs_side_by_side_that_do_not_fit_into_memory_are_refused_with_how_many_do(self):
        spec = {"base": {"model": {"model_dim": 1024, "num_heads": 8}, "data": {"context": 16},
                         "train": {"steps": 10, "warmup_steps": 1, "batch_size": 1}}, "seeds": 3}
        path = write_spec(self.folder, spec)

        def plan(depth, *more):
            return self.run_here("plan", path, "--no-timing", "--json", "--set", f"model.depth={depth}", *more)

        one, two = (json.loads(plan(depth, "--jobs", "1").stdout)["runs"][0]["training_bytes"] for depth in (10, 20))
        per_layer = (two - one) / 10
        depth = int(0.4 * memory_limit() / per_layer)  # two fit, three do not
        if depth > 1000:
            self.skipTest("this machine has too much memory for the largest depth")
        refused = plan(depth, "--jobs", "3")
        self.assertEqual(refused.returncode, 65, refused.stderr)
        self.assertIn("take --jobs 2", refused.stderr)
        self.assertEqual(plan(depth, "--jobs", "2").returncode, 0)
        self.assertEqual(plan(depth).returncode, 0)

    def test_a_plan_of_long_contexts_ends_in_seconds(self):
        spec = {"base": {"model": {"depth": 4, "model_dim": 256, "num_heads": 4}, "data": {"context": 20000},
                         "train": {"batch_size": 2}},
                "grid": {"attention": [{"variant": "softmax"}, {"variant": "linear"}]}}
        begin = time.monotonic()
        done = self.run_here("plan", write_spec(self.folder, spec), "--jobs", "1")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("a part of one was measured", done.stdout)
        self.assertLess(time.monotonic() - begin, 60)  # some seconds alone; the machine may be shared

    def test_the_same_text_elsewhere_is_the_same_run(self):
        ids = []
        for name in ("a.txt", "b.txt"):
            with open(os.path.join(self.folder, name), "w") as file:
                file.write("to be or not to be, " * 500)
            spec = {**TINY, "base": {**TINY["base"], "data": {"source": "text", "path": name, "context": 16}},
                    "grid": {"model.depth": [1]}, "seeds": 1}
            planned = self.run_here("plan", write_spec(self.folder, spec), "--no-timing", "--json")
            ids.append(json.loads(planned.stdout)["runs"][0]["id"])
        self.assertEqual(ids[0], ids[1])


if __name__ == "__main__":
    unittest.main()
