"""Early stopping: what is decided follows by the rule, is decided once, survives kills, and is never taken for an end."""

import csv
import glob
import json
import os
import random
import signal
import statistics
import subprocess
import tempfile
import time
import unittest

from program import PROGRAM, TINY, ProgramTest, rows, run, write_spec

ASHA = {"rule": "asha", "first": 20, "reduction": 2, "by": ["train.learning_rate"]}
MEDIAN = {"rule": "median", "first": 20, "every": 20, "least": 2}
RATES = [0.01, 0.003, 3.0, 0.03, 0.0001, 0.3]


def spec(stopping=None, steps=120):
    base = {**TINY["base"], "train": {**TINY["base"]["train"], "steps": steps, "eval_every": 20, "eval_tokens": 128,
                                      "checkpoint_every": 10}}
    whole = {"name": "stopping", "base": base, "seeds": 2, "grid": {"train.learning_rate": RATES}}
    return {**whole, "stopping": stopping} if stopping else whole


def log_of(folder, row):
    with open(os.path.join(folder, "runs", row["id"], "log.jsonl")) as file:
        return file.read()


def evaluations(log):
    """Step -> validation loss."""
    found = (json.loads(line) for line in log.splitlines())
    return {row["step"]: row["loss"] for row in found if row.get("eval")}


class Stopping(ProgramTest):
    @classmethod
    def setUpClass(cls):
        scratch = tempfile.TemporaryDirectory(prefix="attnscale-stopping-")
        cls.addClassCleanup(scratch.cleanup)
        cls.calm = os.path.join(scratch.name, "calm")  # nothing is stopped
        done = run("sweep", write_spec(scratch.name, spec()), "--out", cls.calm)
        assert done.returncode == 0, done.stderr
        cls.whole = {row["id"]: log_of(cls.calm, row) for row in rows(os.path.join(cls.calm, "results.jsonl"))}

    def sweep(self, stopping, out="out", **options):
        path = write_spec(self.folder, spec(stopping))
        done = self.run_here("sweep", path, "--out", out, **options)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def ledgers(self, out):
        found = {}
        for path in glob.glob(os.path.join(self.folder, out, "stopping", "*", "decisions.json")):
            with open(path) as file:
                found[path.split(os.sep)[-2]] = json.load(file)["decisions"]
        return found

    def check(self, out):
        """Decides everything once more from the logs alone. @return rows by status"""
        folder = os.path.join(self.folder, out)
        found = {row["id"]: row for row in rows(os.path.join(folder, "results.jsonl"))}
        self.assertEqual(set(found), set(self.whole))
        losses = {id_: evaluations(log) for id_, log in self.whole.items()}
        decided = {}
        for group in self.ledgers(out).values():
            came, ended = {}, set()
            for one in group:
                key = (one["run"], one["step"])
                self.assertNotIn(key, decided, "decided twice")
                before = came.setdefault(one["step"], [])
                if "rank" in one:
                    loss = losses[one["run"]][one["step"]]
                    self.assertEqual(one["loss"], loss)
                    better = sum(losses[other][one["step"]] <= loss for other in before)
                    goes_on = len(before) + 1 < 2 or better < (len(before) + 1) // 2
                elif "ended" in one:
                    goes_on = True
                else:
                    upto = [[loss for step, loss in losses[id_].items() if step <= one["step"]]
                            for id_ in [one["run"]] + [other for other in before if other in ended]]
                    medians = [statistics.fmean(curve) for curve in upto[1:]]
                    goes_on = len(medians) < 2 or min(upto[0]) <= statistics.median(medians)
                self.assertEqual(one["goes_on"], goes_on, one)
                decided[key] = one["goes_on"]
                before.append(one["run"])
                if not one["goes_on"] or "ended" in one:
                    ended.add(one["run"])
        by_status = {"done": [], "stopped": []}
        for id_, row in found.items():
            by_status[row["status"]].append(row)
            log = log_of(folder, row)
            if row["status"] == "done":
                self.assertEqual(log, self.whole[id_], "a run that goes on is the run that it were without a rule")
                self.assertTrue(all(goes_on for (run_, _), goes_on in decided.items() if run_ == id_))
                continue
            self.assertTrue(self.whole[id_].startswith(log))
            self.assertEqual(list(evaluations(log))[-1], row["stopped"]["step"])
            self.assertEqual(row["stopped"]["loss"], losses[id_][row["stopped"]["step"]])
            self.assertIs(decided[id_, row["stopped"]["step"]], False)
            self.assertNotIn("loss", row)
        check = self.run_here("fsck", out)
        self.assertEqual(check.returncode, 0, check.stdout)
        return by_status

    def test_asha_from_the_plan_to_the_report(self):
        plan = self.run_here("plan", write_spec(self.folder, spec(ASHA)), "--no-timing")
        self.assertIn("early stopping (asha) after 20, 40, 80 steps, in 2 groups of at most 6 runs that differ in "
                      "learning_rate: the sums above count every run to its end, at most; at least", plan.stdout)
        proposed = self.run_here("plan", "spec.json", "--flops", "1e12")
        self.assertEqual(proposed.returncode, 65)
        self.assertRegex(proposed.stderr, r"spec.json:\d+:\d+: stopping: designs are proposed for a spec without")
        said = self.sweep(ASHA, "out").stderr
        ends = self.check("out")
        done, stopped = len(ends["done"]), len(ends["stopped"])
        self.assertGreaterEqual(done, 2)  # of each group one at least
        self.assertGreaterEqual(stopped, 4)  # the rates are far apart
        self.assertIn(f"{stopped} stopped early", said)
        self.assertNotIn("failed", said)
        self.assertIn(f"{stopped} of 12 runs were stopped early by the spec's rule", said)
        # Who comes later looks at the same.
        self.assertEqual(self.run_here("watch", "out", "--once").stdout.splitlines()[0],
                         f"stopping: 12/12 runs, {stopped} stopped early")
        row = ends["stopped"][0]
        why = self.run_here("why", f"out/{row['id']}")
        self.assertRegex(why.stdout, r"stopped: rank \d of \d at step \d+, where the best \d go on")
        self.assertIn(f"{done} done, {stopped} stopped",
                      self.run_here("plan", "spec.json", "--out", "out", "--why").stdout)
        listed = self.run_here("runs", "out", "--where", "status == 'stopped' and stopped.step <= 80", "--json")
        self.assertEqual(len(json.loads(listed.stdout)), stopped)
        self.assertEqual(self.run_here("export", "out", "--format", "csv", "--out", "table.csv").returncode, 0)
        with open(os.path.join(self.folder, "table.csv")) as file:
            table = list(csv.DictReader(file))
        self.assertEqual(sum(line["status"] == "stopped" and line["loss"] == "" for line in table), stopped)
        with open(os.path.join(self.folder, "out", "report.html")) as file:
            self.assertIn("stopped early, none failed", file.read())
        again = self.run_here("rerun", f"out/{row['id']}")
        self.assertEqual(again.returncode, 0, again.stdout)
        self.assertIn("the bits agree: every row of the log, and the final weights", again.stdout)

    def test_fits_and_tuning_do_not_take_a_stopped_run_for_a_finished_one(self):
        self.sweep(ASHA)
        stopped = len(self.check("out")["stopped"])
        with open(os.path.join(self.folder, "out", "scaling.json")) as file:
            fits = json.load(file)["fits"]["all"]
        self.assertEqual(fits["n_points"], 12 - stopped)
        said = " ".join(flag["text"] for flag in fits["flags"])
        self.assertIn(f"{stopped} of 12 runs were stopped early by the spec's rule and are not in the fit", said)
        self.assertNotIn("did not finish", said)
        best = self.run_here("optimum", "out", "--of", "train.learning_rate", "--json")
        self.assertEqual(best.returncode, 0, best.stderr)
        report = json.loads(best.stdout)
        self.assertIn(f"{stopped} runs were stopped early and count as worse than the best", " ".join(report["notes"]))
        found = {row["id"]: row for row in rows(os.path.join(self.folder, "out", "results.jsonl"))}
        losers = {row["config"]["train"]["learning_rate"] for row in found.values() if row["status"] == "stopped"}
        for setting in report["settings"]:
            self.assertEqual(set(setting["not_finished"]), losers)
            self.assertNotIn(setting["optimum"]["value"], losers)

    def test_the_median_rule(self):
        said = self.sweep(MEDIAN, "out").stderr
        ends = self.check("out")
        self.assertGreaterEqual(len(ends["stopped"]), 1)
        self.assertGreaterEqual(len(ends["done"]), 4)
        self.assertIn("worse than the median", said)

    def test_kills_at_random_moments_lose_and_change_no_decision(self):
        path, rng, kills = write_spec(self.folder, spec(ASHA)), random.Random(3), 0
        known, ends = {}, {}

        def decisions():
            return sum(map(len, self.ledgers("out").values()))

        while True:
            sweep = subprocess.Popen([PROGRAM, "sweep", path, "--out", "out"], cwd=self.folder, stdin=subprocess.DEVNULL,
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            self.addCleanup(sweep.kill)
            # Somewhere around a decision, wherever the machine has come to by then.
            target = decisions() + rng.randrange(3) if kills < 12 else 10**6
            while sweep.poll() is None and decisions() < target:
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.2))
            if sweep.poll() is not None:
                self.assertEqual(sweep.returncode, 0)
                break
            sweep.send_signal(signal.SIGKILL if rng.random() < 0.7 else signal.SIGTERM)
            sweep.wait(120)
            kills += 1
            for group, now in self.ledgers("out").items():
                before = known.get(group, [])
                self.assertEqual(now[:len(before)], before, "a decision was lost or changed")
                known[group] = now
            for result in glob.glob(os.path.join(self.folder, "out", "runs", "*", "result.json")):
                self.assertEqual(ends.setdefault(result, os.stat(result).st_ino), os.stat(result).st_ino)
        self.assertGreater(kills, 3)
        self.assertTrue(known)
        self.check("out")
        print(f"{kills} kills, {decisions()} decisions")

    def test_processes_that_share_a_folder_decide_together(self):
        path = write_spec(self.folder, spec(ASHA))
        sweeps = [subprocess.Popen([PROGRAM, "sweep", path, "--out", "out", "--jobs", "1"], cwd=self.folder,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
                  for _ in range(3)]
        for sweep in sweeps:
            said = sweep.communicate(timeout=300)[1]
            self.assertEqual(sweep.returncode, 0, said)
        self.check("out")
        # Another rule in the same folder is another plan.
        held = subprocess.Popen([PROGRAM, "sweep", write_spec(self.folder, spec(ASHA, steps=10**6), "long.json"), "--out",
                                 "long"], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)
        self.addCleanup(held.wait)
        self.addCleanup(held.kill)
        deadline = time.monotonic() + 60
        while not glob.glob(os.path.join(self.folder, "long", "runs", "*", "lease-*")) and time.monotonic() < deadline:
            time.sleep(0.05)
        other = self.run_here("sweep", write_spec(self.folder, spec(MEDIAN, steps=10**6), "other.json"), "--out", "long")
        self.assertEqual(other.returncode, 74, other.stderr)
        self.assertIn("at work in this folder with another plan", other.stderr)

    def test_without_the_rule_the_stopped_ones_go_on_to_the_bits_of_a_whole_run(self):
        self.sweep(ASHA)
        stopped = len(self.check("out")["stopped"])
        why = self.run_here("plan", write_spec(self.folder, spec(), "whole.json"), "--out", "out", "--why")
        self.assertIn(f"{12 - stopped} done, {stopped} unfinished", why.stdout)
        done = self.run_here("sweep", "whole.json", "--out", "out")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stderr.count("was stopped early by another rule; going on with this run"), stopped)
        for row in rows(os.path.join(self.folder, "out", "results.jsonl")):
            self.assertEqual(row["status"], "done")
            self.assertEqual(log_of(os.path.join(self.folder, "out"), row), self.whole[row["id"]])
        self.assertEqual(self.run_here("fsck", "out").returncode, 0)

    def test_a_damaged_or_missing_ledger_is_damage(self):
        self.sweep(ASHA)
        path = glob.glob(os.path.join(self.folder, "out", "stopping", "*", "decisions.json"))[0]
        with open(path) as file:
            content = file.read()
        with open(path, "w") as file:
            file.write(content.replace('"goes_on": false', '"goes_on": true', 1))
        check = self.run_here("fsck", "out")
        self.assertEqual(check.returncode, 65)
        self.assertIn("decisions.json: its SHA-256 does not hold", check.stdout)
        os.remove(path)
        check = self.run_here("fsck", "out")
        self.assertEqual(check.returncode, 65)
        self.assertRegex(check.stdout, r"decisions.json: is missing, by which run \w+ was stopped early")


if __name__ == "__main__":
    unittest.main()
