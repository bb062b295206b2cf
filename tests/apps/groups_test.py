"""Specs made of several files and of named groups, from the spec to the questions that are asked afterwards."""

import csv
import json
import os
import unittest

from program import TINY, ProgramTest, rows, write_spec

VARIANTS = [{"variant": "softmax"}, {"variant": "linear"}]


class Groups(ProgramTest):
    def setUp(self):
        super().setUp()
        os.mkdir(os.path.join(self.folder, "shared"))
        write_spec(self.folder, {"base": {**TINY["base"], "train": {**TINY["base"]["train"], "steps": 20}}},
                   os.path.join("shared", "common.json"))
        self.spec = write_spec(self.folder, {
            "include": "shared/common.json", "name": "grouped", "seeds": 2, "grid": {"attention": VARIANTS},
            "groups": {"wide": {"grid": {"model.model_dim": [8, 16]}},
                       "deep": {"grid": {"model.depth": [1, 2]}, "base": {"train": {"steps": 20}}}}})

    def test_a_group_can_be_asked_for_wherever_runs_are(self):
        done = self.run_here("sweep", self.spec, "--out", "out")
        self.assertEqual(done.returncode, 0, done.stderr)
        # Width 8 at depth 1 is in both: 8 + 8 points, of which 4 come twice.
        self.assertEqual(len(rows(os.path.join(self.folder, "out", "results.jsonl"))), 12)
        asked = {}
        for condition in ("group == 'wide'", "group == 'deep'", "'deep' in groups", "'wide' in groups and depth == 2"):
            found = self.run_here("runs", "out", "--where", condition, "--columns", "id,group", "--json")
            self.assertEqual(found.returncode, 0, found.stderr)
            asked[condition] = len(json.loads(found.stdout))
        self.assertEqual(list(asked.values()), [8, 4, 8, 0])
        compared = {}
        for where in ([], ["--where", "'deep' in groups"], ["--where", "group == 'wide' and model_dim == 16"]):
            found = self.run_here("compare", "out", "--json", *where)
            self.assertEqual(found.returncode, 0, found.stderr)
            self.assertEqual(json.loads(found.stdout).get("where"), where[1] if where else None)
            (compared[" ".join(where)],) = (pair["cells"] for pair in json.loads(found.stdout)["comparisons"])
        self.assertEqual(list(compared.values()), [3, 2, 1])  # sizes
        self.assertEqual(self.run_here("compare", "out", "--where", "grop == 'wide'").returncode, 65)
        drawn = self.run_here("draw", "out", "--x", "depth", "--y", "loss", "--where", "'deep' in groups", "--out",
                              "picture.svg")
        self.assertEqual(drawn.returncode, 0, drawn.stderr)
        self.assertEqual(self.run_here("export", "out", "--format", "csv", "--out", "table.csv").returncode, 0)
        with open(os.path.join(self.folder, "table.csv")) as file:
            self.assertEqual(sorted(line["group"] for line in csv.DictReader(file)), ["deep"] * 4 + ["wide"] * 8)
        with open(os.path.join(self.folder, "out", "report.html")) as file:
            report = file.read()
        for text in ("group = wide and deep", "group = deep"):
            self.assertIn(text, report)
        self.assertEqual(self.run_here("fsck", "out").returncode, 0)

    def test_what_is_kept_of_the_spec_needs_no_other_file_and_gives_the_same_runs(self):
        self.assertEqual(self.run_here("sweep", self.spec, "--out", "out").returncode, 0)
        with open(os.path.join(self.folder, "out", "plan.json")) as file:
            plan = json.load(file)
        (included,) = plan["included"]
        self.assertTrue(included["file"].endswith("shared/common.json"))
        self.assertRegex(included["sha256"], "^[0-9a-f]{64}$")
        os.remove(os.path.join(self.folder, "shared", "common.json"))
        missing = self.run_here("plan", self.spec, "--no-timing")
        self.assertEqual(missing.returncode, 65)
        self.assertRegex(missing.stderr, r"spec.json:2:\d+: include: shared/common.json: no such file")
        why = self.run_here("plan", os.path.join("out", "spec.json"), "--out", "out", "--why")
        self.assertIn("12 done\n", why.stdout)


if __name__ == "__main__":
    unittest.main()
