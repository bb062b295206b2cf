"""Every spec that ships can be planned: the program knows each option, and no run is refused."""

import glob
import json
import os
import unittest

from program import SOURCE, ProgramTest

TEXT_BYTES = 200_000_000  # what the largest spec asks for; sparse, so that it costs no disk
EXPERIMENTS = os.path.join(SOURCE, "experiments")
# For a GPU or a cluster, beside the one that a laptop trains.
WITH_FULL = ("known-entropy", "depth-width", "isoflop", "data-repetition", "shakespeare", "collapse", "recall")


def specs():
    return sorted(set(glob.glob(os.path.join(EXPERIMENTS, "*", "*.json"))))


class Experiments(ProgramTest):
    def test_each_spec_plans(self):
        text = os.path.join(self.folder, "text.txt")
        with open(text, "wb") as file:
            file.write(bytes(range(97, 123)) * 50_000)
            file.truncate(TEXT_BYTES)
        self.assertGreater(len(specs()), 20)
        for path in specs():
            name = os.path.relpath(path, EXPERIMENTS)
            with self.subTest(name), open(path) as file:
                spec = json.load(file)
                brings_text = spec["base"]["data"].get("path") == ""
                done = self.run_here("plan", path, "--no-timing", "--json",
                                     *(["--set", "data.path=" + text] if brings_text else []))
                # Memory is the machine's, not the spec's.
                told = [line for line in done.stderr.splitlines() if "this machine has" not in line]
                self.assertEqual([], told)
                if done.returncode == 0:
                    self.assertGreater(len(json.loads(done.stdout)["runs"]), 0)

    def test_experiments_with_a_spec_for_a_gpu_have_one(self):
        for name in WITH_FULL:
            self.assertTrue(glob.glob(os.path.join(EXPERIMENTS, name, "full*.json")), name)


if __name__ == "__main__":
    unittest.main()
