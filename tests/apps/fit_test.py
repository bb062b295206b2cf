"""The commands that read tables and results: what they refuse, with which status, and how long 10^5 rows take."""

import json
import os
import random
import time
import unittest

from program import ProgramTest


class Fit(ProgramTest):
    def write(self, name, text):
        path = os.path.join(self.folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(text)
        return path

    def table(self):
        rows = [f"{n},{d},{1.7 + 12 * n ** -0.5 + 400 * d ** -0.6}" for n in (1e3, 4e3, 16e3, 64e3) for d in (1e5, 4e5, 16e5)]
        return self.write("t.csv", "params,tokens,loss\n" + "\n".join(rows) + "\n")

    def test_laws_are_scored_above_a_budget_and_a_budget_is_a_positive_number(self):
        done = self.run_here("fit", self.table(), "--held-out-above", "1e10", "--json", "--bootstrap", "0")
        self.assertEqual(done.returncode, 0, done.stderr)
        laws = {law["law"]: law for law in json.loads(done.stdout)["laws"]}
        law = laws["E + A N^-alpha + B D^-beta"]
        above = [1 for n in (1e3, 4e3, 16e3, 64e3) for d in (1e5, 4e5, 16e5) if 6 * n * d > 1e10]
        self.assertEqual(law["held_out_points"], len(above))
        self.assertLess(law["held_out"], 1e-6)  # the table has no noise
        self.assertAlmostEqual(law["fitted"]["alpha"], 0.5, 6)
        self.assertTrue(law["second_opinion"]["agrees"])
        for value in ("0", "nan", "inf", "-3"):
            self.assertEqual(self.run_here("fit", self.table(), "--held-out-above=" + value).returncode, 2, value)

    def test_numbers_that_are_none_are_usage_errors(self):
        for flag in ("--delta", "--fixed-irreducible"):
            for value in ("nan", "inf", "-1", "NaN"):
                done = self.run_here("fit", self.table(), f"{flag}={value}")
                self.assertEqual(done.returncode, 2, (flag, value, done.stdout))
                self.assertIn(flag, done.stderr)

    def test_an_irreducible_loss_that_a_run_has_beaten_is_refused(self):
        done = self.run_here("fit", self.table(), "--fixed-irreducible", "3")
        self.assertEqual(done.returncode, 65)
        self.assertIn("is not below the lowest loss", done.stderr)

    def test_a_hostile_table_gets_an_error_or_a_flag_and_never_a_bare_number(self):
        good = [f"{n},{d},{1.7 + 12 * n ** -0.5 + 400 * d ** -0.6}" for n in (1e3, 4e3, 16e3) for d in (1e5, 4e5, 16e5)]
        head = "params,tokens,loss\n"
        refused = {
            "missing column": ("params,tokens\n1,2\n", 'no column "loss" for L'),
            "negative loss": (head + "\n".join(good) + "\n1000,1000,-1\n", "expected a positive finite number"),
            "NaN": (head + "\n".join(good) + "\n1000,1000,NaN\n", "t.csv:11"),
            "a text file": ("To be, or not to be,\nthat is the question\n", "no column"),
            "no rows": (head, "has no rows"),
            "nothing": ("", "is empty"),
        }
        for name, (text, words) in refused.items():
            done = self.run_here("fit", self.write("t.csv", text))
            self.assertEqual(done.returncode, 65, name)
            self.assertIn(words, done.stderr, name)
            self.assertEqual(done.stdout, "", name)
        flagged = {
            "one point": (good[:1], "not_fitted_L(N,D)"),
            "all equal N": ([row for row in good if row.startswith("1000.0,")], "not_fitted_L(N,D)"),
            "a point twice": (good[:1] * 20, "not_fitted_L(N,D)"),
            "the same loss everywhere": ([row.rsplit(",", 1)[0] + ",2" for row in good], "no_fall_N"),
        }
        for name, (rows, doubt) in flagged.items():
            done = self.run_here("fit", self.write("t.csv", head + "\n".join(rows) + "\n"), "--json")
            self.assertEqual(done.returncode, 0, name)
            doubts = json.loads(done.stdout)["doubts"]
            self.assertIn(doubt, [each["id"] for each in doubts if each["severity"] == "error"], name)
            for each in doubts:
                self.assertTrue(each["text"], name)

    def test_the_self_test_shows_its_criteria_and_exits_by_them(self):
        done = self.run_here("fit", "--self-test", "--sweeps", "2", "--bootstrap", "60", "--json")
        result = json.loads(done.stdout)
        self.assertEqual(done.returncode, 0 if result["passed"] else 1)
        self.assertEqual(result["passed"], all(each["passed"] for each in result["criteria"]))
        self.assertEqual(len(result["sources"]), 8)
        for arguments in (["fit"], ["fit", "t.csv", "--self-test"], ["fit", "t.csv", "--sweeps", "3"]):
            self.assertEqual(self.run_here(*arguments).returncode, 2, arguments)

    def test_one_column_for_two_roles_is_refused(self):
        done = self.run_here("fit", self.table(), "--columns", "N=params,D=params,L=loss")
        self.assertEqual(done.returncode, 65)
        self.assertIn("a column has one role", done.stderr)

    def test_results_of_a_wrong_type_name_file_line_and_field(self):
        good = {"id": "a", "status": "done", "loss": 1.5, "params": 10, "tokens": 20}
        self.write("sweep/results.jsonl", json.dumps(good) + "\n" + json.dumps({**good, "id": "b", "loss": [1]}) + "\n")
        for command in (["fit"], ["export"], ["report"]):
            done = self.run_here(*command, "sweep")
            self.assertEqual(done.returncode, 65, command)
            self.assertIn("results.jsonl:2: loss: received a list; expected a number", done.stderr, command)

    def test_results_without_a_row_are_refused(self):
        self.write("sweep/results.jsonl", "")
        for command in (["fit"], ["export"], ["report"]):
            done = self.run_here(*command, "sweep")
            self.assertEqual(done.returncode, 65, command)
            self.assertIn("has no rows", done.stderr, command)

    def test_compare_gives_a_sentence_for_each_pair(self):
        rows = []
        for variant, gap in (("softmax", 0), ("linear", 0.1), ("window", 0.1)):
            for width in (8, 16, 32):
                for seed in (0, 1, 2):
                    config = {"model": {"depth": 1, "model_dim": width}, "attention": {"variant": variant},
                              "train": {"seed": seed, "learning_rate": 0.01}}
                    rows.append({"id": f"{variant}{width}{seed}", "status": "done", "seed": seed, "params": width * width,
                                 "tokens": 1000, "loss": 2 + 1 / width + gap + 0.001 * ((seed * 7 + width) % 5),
                                 "config": config})
        self.write("sweep/results.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        done = self.run_here("compare", "sweep")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("softmax is better than linear by 0.1", done.stdout)
        self.assertIn("linear and window are not shown to differ", done.stdout)
        report = json.loads(self.run_here("compare", "sweep", "--json").stdout)
        self.assertEqual([pair["comparisons"] for pair in report["comparisons"]], [3, 3, 3])

    def test_a_hundred_thousand_rows_are_fitted_and_found(self):
        random.seed(1)
        lines = ["params,tokens,loss"]
        for _ in range(100000):
            n, d = random.choice([1e3, 4e3, 1.6e4, 6.4e4]), random.choice([1e5, 4e5, 1.6e6, 6.4e6])
            lines.append(f"{n},{d},{1.7 + 12.6 * n ** -0.5 + 400 * d ** -0.6 + random.gauss(0, 0.004)}")
        began = time.monotonic()
        done = self.run_here("fit", self.write("many.csv", "\n".join(lines) + "\n"), "--json")
        # Seconds on a free core; the limit only catches what took minutes before.
        self.assertLess(time.monotonic() - began, 90)
        self.assertEqual(done.returncode, 0, done.stderr)
        # Standard error of E with 6,250 rows a cell: about .0001.
        self.assertAlmostEqual(json.loads(done.stdout)["forms"]["L(N,D)"]["E"], 1.7, delta=0.001)


if __name__ == "__main__":
    unittest.main()
