"""attnscale fsck: whatever is damaged in a results folder is named, and what is whole is clean."""

import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

from program import PROGRAM, TINY, ProgramTest, rows, run, write_spec


def files_under(folder):
    return sorted(os.path.join(path, name) for path, _, names in os.walk(folder) for name in names)


def wait_until_quiet(folder):
    """Until nothing is written there any more: a killed sweep's workers go with it, on a busy machine a moment later."""
    def state():
        return [(path, os.stat(path).st_mtime_ns) for path in files_under(folder) if os.path.exists(path)]

    before = None
    while before != (before := state()):
        time.sleep(1)


class Fsck(ProgramTest):
    @classmethod
    def setUpClass(cls):
        scratch = tempfile.TemporaryDirectory(prefix="attnscale-fsck-")
        cls.addClassCleanup(scratch.cleanup)
        cls.whole = os.path.join(scratch.name, "out")
        spec = write_spec(scratch.name, {**TINY, "grid": {"model.depth": [1]}, "seeds": 2})
        done = run("sweep", spec, "--out", cls.whole)
        assert done.returncode == 0, done.stderr
        cls.ids = [row["id"] for row in rows(os.path.join(cls.whole, "results.jsonl"))]

    def setUp(self):
        super().setUp()
        self.out = os.path.join(self.folder, "out")
        shutil.copytree(self.whole, self.out)
        self.run_folder = os.path.join(self.out, "runs", self.ids[0])

    def fsck(self):
        done = run("fsck", self.out, "--json")
        self.assertIn(done.returncode, (0, 65), done.stderr)
        report = json.loads(done.stdout)
        self.assertEqual(report["clean"], done.returncode == 0)
        return report

    def test_a_finished_sweep_is_clean(self):
        report = self.fsck()
        self.assertEqual(report["findings"], [])
        self.assertEqual((report["runs"], report["finished"], report["checkpoints"]), (2, 2, 2))
        self.assertTrue(run("fsck", self.out).stdout.endswith("2 runs (2 finished), 2 checkpoints: clean\n"))

    def test_every_flipped_bit_is_noticed_and_its_file_named(self):
        rng = random.Random(11)
        kinds = ("config.json", "log.jsonl", "result.json", "manifest.json", "state.json", "model.safetensors",
                 "optimizer.safetensors")
        targets = [path for path in files_under(self.run_folder) if os.path.basename(path) in kinds]
        targets.append(os.path.join(self.out, "results.jsonl"))
        self.assertEqual(len(targets), len(kinds) + 1)
        flips = 0
        for path in targets:
            with open(path, "rb") as file:
                content = file.read()
            for _ in range(12):
                at, bit = rng.randrange(len(content)), rng.randrange(8)
                with open(path, "wb") as file:
                    file.write(content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1:])
                report = self.fsck()
                self.assertFalse(report["clean"], f"{path}: byte {at}, bit {bit}")
                told = " ".join(finding["place"] + finding["problem"] for finding in report["findings"])
                self.assertIn(os.path.relpath(path, self.out), told)
                flips += 1
            with open(path, "wb") as file:
                file.write(content)
        self.assertTrue(self.fsck()["clean"])
        print(f"{flips} flipped bits, each noticed and its file named")

    def test_every_cut_of_a_log_and_of_a_result_is_noticed(self):
        for name in ("log.jsonl", "result.json"):
            path = os.path.join(self.run_folder, name)
            with open(path, "rb") as file:
                content = file.read()
            for at in range(0, len(content) - 1, max(1, len(content) // 25)):
                with open(path, "wb") as file:
                    file.write(content[:at])
                self.assertFalse(self.fsck()["clean"], f"{name} cut at {at}")
            with open(path, "wb") as file:
                file.write(content)

    def test_each_finding_says_the_repair_and_the_next_sweep_mends_a_result(self):
        with open(os.path.join(self.run_folder, "result.json"), "r+") as file:
            text = file.read().replace('"steps": 60', '"steps": 61', 1)
            file.seek(0)
            file.write(text)
        done = run("fsck", self.out)
        self.assertEqual(done.returncode, 65)
        self.assertIn("result.json: its SHA-256 does not hold", done.stdout)
        self.assertIn("repair: run the sweep again", done.stdout)
        again = run("sweep", os.path.join(self.out, "spec.json"), "--out", self.out)
        self.assertEqual(again.returncode, 0, again.stderr)
        self.assertIn("doing this run again", again.stderr)
        self.assertTrue(self.fsck()["clean"])

    def test_a_missing_file_and_leftovers_are_told_apart(self):
        with open(os.path.join(self.run_folder, "config.json.tmp-123"), "w") as file:
            file.write("half")
        report = self.fsck()
        self.assertTrue(report["clean"])
        self.assertEqual(len(report["findings"]), 1)
        os.remove(os.path.join(self.run_folder, "log.jsonl"))
        self.assertFalse(self.fsck()["clean"])

    def test_what_a_killed_sweep_left_is_clean(self):
        shutil.rmtree(self.out)
        train = {**TINY["base"]["train"], "steps": 10**6, "eval_every": 10**6, "checkpoint_every": 20}
        spec = write_spec(self.folder, {**TINY, "base": {**TINY["base"], "train": train}, "grid": {"model.depth": [1]}, "seeds": 1})
        for _ in range(3):
            sweep = subprocess.Popen([PROGRAM, "sweep", spec, "--out", self.out], stdout=subprocess.DEVNULL,
                                     stderr=subprocess.DEVNULL)
            time.sleep(random.Random(5).uniform(1.5, 3))
            sweep.send_signal(signal.SIGKILL)
            sweep.wait()
            wait_until_quiet(self.out)
            if os.path.isdir(os.path.join(self.out, "runs")):
                self.assertTrue(self.fsck()["clean"], run("fsck", self.out).stdout)

    def test_a_sweep_at_work_is_no_damage_and_is_named(self):
        shutil.rmtree(self.out)
        train = {**TINY["base"]["train"], "steps": 500, "eval_every": 20, "checkpoint_every": 1}
        spec = write_spec(self.folder, {**TINY, "base": {**TINY["base"], "train": train}})
        # Everything is in motion: a checkpoint comes and one goes with each step, runs end, the table grows.
        sweep = subprocess.Popen([PROGRAM, "sweep", spec, "--out", self.out, "--jobs", "2"], stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL)
        self.addCleanup(sweep.wait)
        self.addCleanup(sweep.kill)
        looks, finished, said = 0, set(), ""
        while sweep.poll() is None:
            if not os.path.isdir(os.path.join(self.out, "runs")):
                time.sleep(0.02)
                continue
            done = run("fsck", self.out, *(["--json"] if looks % 2 else []))
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            if looks % 2:
                report = json.loads(done.stdout)
                self.assertEqual(len(report["workers"]) > 0, report["at_work"] > 0)
                self.assertFalse(any(finding["damage"] for finding in report["findings"]), report)
                finished.add(report["finished"])
            else:
                said += done.stdout
            looks += 1
        self.assertEqual(sweep.returncode, 0)
        self.assertGreater(looks, 5)
        self.assertGreater(len(finished), 2, "no run ended while fsck looked")
        self.assertRegex(said, r"at work, and not checked: [12] of the runs, by \S+, process \d+")
        self.assertNotIn("at work", run("fsck", self.out).stdout)
        self.assertEqual(self.fsck()["at_work"], 0)

    def test_the_place_to_go_back_to_is_checked_while_a_run_may_need_it(self):
        shutil.rmtree(self.out)
        train = {**TINY["base"]["train"], "steps": 10**6, "eval_every": 10**6, "on_divergence": "roll_back"}
        spec = write_spec(self.folder, {**TINY, "base": {**TINY["base"], "train": train}, "grid": {"model.depth": [1]}, "seeds": 1})
        sweep = subprocess.Popen([PROGRAM, "sweep", spec, "--out", self.out], stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL)
        self.addCleanup(sweep.wait)
        self.addCleanup(sweep.kill)
        for _ in range(600):
            folders = [path for path, _, names in os.walk(self.out) if "manifest.json" in names]
            if any("/roll_back/step-" in path for path in folders) and any("/checkpoint/step-" in path for path in folders):
                break
            time.sleep(0.1)
        sweep.kill()
        sweep.wait()
        wait_until_quiet(self.out)
        self.assertTrue(self.fsck()["clean"], run("fsck", self.out).stdout)
        run_folder = os.path.join(self.out, "runs", os.listdir(os.path.join(self.out, "runs"))[0])
        place = os.path.join(run_folder, "roll_back", os.listdir(os.path.join(run_folder, "roll_back"))[0])
        with open(os.path.join(place, "model.safetensors"), "r+b") as file:
            file.truncate(100)
        finding, = [finding for finding in self.fsck()["findings"] if finding["damage"]]
        self.assertIn("/roll_back/step-", finding["place"])
        self.assertIn("remove " + run_folder, finding["repair"])
        shutil.rmtree(os.path.join(run_folder, "roll_back"))
        finding, = [finding for finding in self.fsck()["findings"] if finding["damage"]]
        self.assertEqual(finding["problem"], "is missing")

    def test_a_folder_that_is_no_sweep_is_refused(self):
        self.assertEqual(run("fsck", os.path.join(self.folder, "absent")).returncode, 74)
        os.mkdir(os.path.join(self.folder, "empty"))
        self.assertEqual(run("fsck", os.path.join(self.folder, "empty")).returncode, 65)


if __name__ == "__main__":
    unittest.main()
