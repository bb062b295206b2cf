"""A clock that is set forward and back while a sweep is at work: results, leases, logs, durations and what is left."""

import datetime
import glob
import json
import os
import re
import subprocess
import threading
import time
import unittest

from program import PROGRAM, TINY, ProgramTest, rows, stable, write_spec

MOVED_CLOCK = os.environ["ATTNSCALE_MOVED_CLOCK"]  # moved_clock.c, as a library
DAY = 86400


class Clock(ProgramTest):
    def setUp(self):
        super().setUp()
        train = {**TINY["base"]["train"], "steps": 300, "eval_every": 100, "checkpoint_every": 50}
        self.spec = write_spec(self.folder, {**TINY, "base": {**TINY["base"], "train": train}})

    def clock(self, name, days=0):
        """A clock of that name, set to so many days from now."""
        path = os.path.join(self.folder, name)
        with open(path + ".new", "w") as file:
            file.write(str(round(days * DAY)))
        os.rename(path + ".new", path)
        return {**os.environ, "LD_PRELOAD": MOVED_CLOCK, "MOVED_CLOCK": path}

    def start(self, out, environment, *more):
        log = open(os.path.join(self.folder, f"stderr-{len(glob.glob(self.folder + '/stderr-*'))}"), "w+")
        self.addCleanup(log.close)
        sweep = subprocess.Popen([PROGRAM, "sweep", self.spec, "--out", out, "--jobs", "1", *more], cwd=self.folder,
                                 stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, env=environment)
        sweep.log = log.name
        self.addCleanup(sweep.kill)
        return sweep

    def end(self, sweep):
        self.assertEqual(sweep.wait(300), 0)
        with open(sweep.log) as file:
            return file.read()

    def check_against_calm(self, out):
        calm = self.run_here("sweep", self.spec, "--out", "calm", "--jobs", "1", timeout=300)
        self.assertEqual(calm.returncode, 0, calm.stderr)
        here, there = (rows(os.path.join(self.folder, name, "results.jsonl")) for name in (out, "calm"))
        self.assertEqual(list(map(stable, here)), list(map(stable, there)))
        for log in glob.glob(os.path.join(self.folder, "calm", "runs", "*", "log.jsonl")):
            with open(log, "rb") as one, open(log.replace("/calm/", f"/{out}/"), "rb") as other:
                self.assertEqual(one.read(), other.read(), log)
        check = self.run_here("fsck", out)
        self.assertEqual(check.returncode, 0, check.stdout)
        return here

    def test_the_library_moves_the_time_of_day_of_a_process(self):
        """Or the tests below would show nothing."""
        said = subprocess.run(["date", "+%s"], env=self.clock("clock", days=1000), stdout=subprocess.PIPE, text=True)
        self.assertGreater(int(said.stdout), time.time() + 999 * DAY)

    def test_a_clock_that_jumps_during_a_sweep_changes_no_result_and_no_duration(self):
        environment = self.clock("clock")
        begin = time.monotonic()
        sweep = self.start("out", environment, "--lease", "5")
        stop, jumps = threading.Event(), 0

        def jump():
            nonlocal jumps
            while not stop.wait(0.05):
                jumps += 1
                self.clock("clock", days=(3650, -3650, 0.5, -1)[jumps % 4])

        jumping = threading.Thread(target=jump)
        jumping.start()
        try:
            watch = self.run_here("watch", "out", "--interval", "0.2", env=environment, timeout=300) \
                if self.wait_for(os.path.join("out", "plan.json")) else None
            said = self.end(sweep)
        finally:
            stop.set()
            jumping.join()
        wall = time.monotonic() - begin
        self.assertGreater(jumps, 20)
        self.assertNotIn("taken over", said)
        self.assertEqual(watch.returncode, 0, watch.stderr)
        # What is left is seconds or minutes: never below zero, and no years.
        for text in re.findall(r"(\S+) left", said + watch.stdout):
            self.assertRegex(text, r"^\d[\d.]*(s|m\d\ds)$", said)
        dates = set()
        for row in self.check_against_calm("out"):
            self.assertGreater(row["timing"]["seconds"], 0)
            self.assertLess(row["timing"]["seconds"], wall)
            for key in ("started", "finished"):
                dates.add(datetime.datetime.strptime(row["provenance"][key], "%Y-%m-%dT%H:%M:%SZ").year)
        self.assertGreater(len(dates), 1, "the dates in the results did not see the clock jump")

    def wait_for(self, path):
        deadline = time.monotonic() + 60
        while not os.path.exists(os.path.join(self.folder, path)) and time.monotonic() < deadline:
            time.sleep(0.02)
        return os.path.exists(os.path.join(self.folder, path))

    def test_processes_whose_clocks_are_years_apart_share_a_folder(self):
        sweeps = [self.start("out", self.clock(f"clock{years}", 365 * years), "--lease", "5") for years in (-9, 0, 9)]
        self.each_run_once_until_ended("out", sweeps)
        for sweep in sweeps:
            said = self.end(sweep)
            self.assertNotIn("taken over", said)
            self.assertNotIn("taken this over", said)  # what a holder says whose lease went to another
        found = self.check_against_calm("out")
        self.assertEqual(len({row["id"] for row in found}), len(found))
        for owner in glob.glob(os.path.join(self.folder, "out", "runs", "*", "lease-*", "owner.json")):
            with open(owner) as file:
                self.assertNotIn("time", " ".join(json.load(file)))  # no date that another could compare


if __name__ == "__main__":
    unittest.main()
