"""`attnscale watch`: a sweep that runs elsewhere, in a terminal, a pipe and a narrow window; and `doctor DIR`."""

import os
import pty
import re
import select
import signal
import subprocess
import time
import unittest

from program import PROGRAM, TINY, ProgramTest, write_spec


class Watch(ProgramTest):
    def start_sweep(self, steps=1500):
        train = {**TINY["base"]["train"], "steps": steps}
        spec = write_spec(self.folder, {**TINY, "base": {**TINY["base"], "train": train}})
        sweep = subprocess.Popen([PROGRAM, "sweep", spec, "--out", "out", "--jobs", "1"], cwd=self.folder,
                                 stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(sweep.kill)
        deadline = time.monotonic() + 60
        while not os.path.exists(os.path.join(self.folder, "out", "plan.json")) and time.monotonic() < deadline:
            time.sleep(0.05)
        return sweep

    def test_it_follows_a_sweep_to_its_end_as_plain_lines_in_a_pipe(self):
        sweep = self.start_sweep()
        watch = self.run_here("watch", "out", "--interval", "0.2", timeout=300)
        self.assertEqual(watch.returncode, 0, watch.stderr)
        self.assertNotIn("\x1b", watch.stdout)
        lines = watch.stdout.splitlines()
        self.assertRegex(watch.stdout, r"tiny: \d/8 runs.*, 1 running")
        self.assertRegex(watch.stdout, r"left \(\S+ to \S+\)")
        self.assertEqual(lines[-1], "tiny: 8/8 runs")
        self.assertTrue(all(one != next_ for one, next_ in zip(lines, lines[1:])), "a line that says nothing new")
        self.assertEqual(sweep.wait(120), 0)
        once = self.run_here("watch", "out", "--once")
        self.assertEqual((once.returncode, once.stdout.splitlines()[0]), (0, "tiny: 8/8 runs"))

    def in_terminal(self, columns, **environment):
        """What a terminal of that many columns gets in two seconds."""
        master, slave = pty.openpty()
        watch = subprocess.Popen([PROGRAM, "watch", "out", "--interval", "0.2"], cwd=self.folder, stdin=slave,
                                 stdout=slave, stderr=slave,
                                 env={**os.environ, "TERM": "xterm", "COLUMNS": str(columns), **environment})
        os.close(slave)
        text, end = b"", time.monotonic() + 2
        while time.monotonic() < end:
            if select.select([master], [], [], 0.1)[0]:
                text += os.read(master, 65536)
        watch.send_signal(signal.SIGTERM)
        self.assertEqual(watch.wait(60), 75)
        os.close(master)
        return text.decode()

    def test_a_terminal_is_redrawn_a_narrow_one_too_and_one_without_colour_gets_plain_lines(self):
        sweep = self.start_sweep(steps=10**6)  # at work until it is told to stop, however fast the machine is
        time.sleep(1)
        wide, narrow = self.in_terminal(100), self.in_terminal(24)
        plain, dumb = self.in_terminal(100, NO_COLOR="1"), self.in_terminal(100, TERM="dumb")
        self.assertRegex(wide, "\x1b\\[\\d+A")  # the cursor goes up
        self.assertRegex(wide, r"\[[#.]+\] +\d+ %")
        self.assertRegex(wide, r"[0-9a-f]{8} \d+/1000000  loss \d+\.\d+")
        for text, columns in ((wide, 100), (narrow, 24)):
            for line in re.sub("\x1b\\[\\d*[AKJ]", "", text).splitlines():
                self.assertLess(len(line), columns)
        for text in (plain, dumb):
            self.assertNotIn("\x1b", text)
            self.assertIn("/8 runs", text)
        sweep.send_signal(signal.SIGTERM)
        self.assertEqual(sweep.wait(120), 75)

    def test_failures_and_sleeping_sweeps_are_shown(self):
        self.assertEqual(self.run_here("watch", "out").returncode, 74)
        sweep = self.start_sweep(steps=10**6)
        sweep.send_signal(signal.SIGTERM)
        self.assertEqual(sweep.wait(120), 75)
        self.assertIn("nobody is at work", self.run_here("watch", "out", "--once").stdout)

    def test_doctor_tries_a_folder(self):
        done = self.run_here("doctor", ".")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertRegex(done.stdout, r"file system +\S+, (of this host|on a network)")
        self.assertRegex(done.stdout, r"a rename does not replace a folder that holds something +yes")
        self.assertEqual(os.listdir(self.folder), [])
        self.assertEqual(self.run_here("doctor", "/proc").returncode, 74)


if __name__ == "__main__":
    unittest.main()
