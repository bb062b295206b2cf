"""Claims of a spec, and pictures of runs: verdict, draw, the end of a sweep, the report."""

import json
import os
import tempfile

from program import TINY, ProgramTest, rows, run, write_spec

CLAIMED = {**TINY, "grid": {"model.depth": [1, 2]}, "claims": [
    {"claim": "training learns <something>", "measure": "loss - log(vocab_size)", "below": 0},
    {"claim": "depth changes it by less than a nat", "measure": "loss", "of": "depth == 2", "against": "depth == 1",
     "above": -1, "below": 1}]}


class Verdict(ProgramTest):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory(prefix="attnscale-verdict-")
        cls.addClassCleanup(cls.scratch.cleanup)
        spec = write_spec(cls.scratch.name, CLAIMED)
        cls.out, cls.again = (os.path.join(cls.scratch.name, name) for name in ("out", "again"))
        cls.sweep = run("sweep", spec, "--out", cls.out)
        again = run("sweep", spec, "--out", cls.again, "--set", "seeds=[5, 6, 7]")
        assert cls.sweep.returncode == again.returncode == 0, cls.sweep.stderr + again.stderr

    def test_numbers_are_those_of_the_rows_and_stand_in_report_and_sweep(self):
        done = run("verdict", self.out, "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        claims = json.loads(done.stdout)["claims"]
        losses = {(row["config"]["model"]["depth"], row["seed"]): row["loss"]
                  for row in rows(os.path.join(self.out, "results.jsonl"))}
        for seed in (0, 1):
            self.assertAlmostEqual(claims[1]["by_seed"][seed], losses[2, seed] - losses[1, seed], 12)
        self.assertEqual(claims[0]["verdict"], "holds")
        self.assertIn("depth changes it by less than a nat\n", self.sweep.stdout)
        with open(os.path.join(self.out, "report.html")) as file:
            page = file.read()
        self.assertIn("training learns &lt;something&gt;</td>", page)

    def test_a_rerun_has_other_seeds(self):
        done = run("verdict", self.out, "--against", self.again)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("seeds 5 to 7", done.stdout)
        self.assertRegex(done.stdout, r"[12] of 2 verdicts are the same with other seeds")
        same = run("verdict", self.out, "--against", self.out)
        self.assertEqual(same.returncode, 65)
        self.assertIn("seed 0 is in both sweeps", same.stderr)

    def test_a_table_for_a_readme(self):
        done = run("verdict", self.out, "--against", self.again, "--markdown")
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = done.stdout.splitlines()
        self.assertEqual(lines[2], "| claim | expected | number | verdict | other seeds | verdict |")
        self.assertRegex(lines[4], r"^\| training learns <something> \| below 0 \| -.*\] \| holds \| -.*\] \| holds \|$")
        self.assertRegex(lines[-1], r"^The other seeds are 5 to 7: [12] of 2 verdicts are the same\.$")
        self.assertNotIn("other seeds", run("verdict", self.out, "--markdown").stdout)
        self.assertEqual(run("verdict", self.out, "--markdown", "--json").returncode, 2)

    def test_claims_may_come_from_another_spec_and_must_be_there(self):
        claims = CLAIMED["claims"][:1] + [{"claim": "a", "measure": "lss", "below": 0}]
        done = run("verdict", self.out, "--claims", write_spec(self.folder, {"claims": claims}))
        self.assertEqual(done.returncode, 65)
        self.assertIn('claims[1]: measure: unknown column lss; did you mean "loss"?', done.stderr)
        self.assertIn("training learns <something>\n", done.stdout)
        self.assertRegex(done.stdout, r"seeds 0, 1: holds\na\n  refused: claims\[1\]: measure: unknown column lss")
        claims.append({"claim": "b", "measure": "loss +", "below": 0})
        done = run("verdict", self.out, "--json", "--claims", write_spec(self.folder, {"claims": claims}))
        self.assertEqual(done.returncode, 65)
        self.assertEqual([claim["verdict"] for claim in json.loads(done.stdout)["claims"]],
                         ["holds", "refused", "refused"])
        self.assertIn("claims[2].measure: ", done.stderr)
        none = run("verdict", self.out, "--claims", write_spec(self.folder, TINY))
        self.assertEqual(none.returncode, 65)
        self.assertIn('has no "claims"', none.stderr)

    def test_a_picture_of_runs(self):
        out = os.path.join(self.folder, "picture.svg")
        done = run("draw", self.out, "--y", "positions.loss", "--by", "depth", "--out", out)
        self.assertEqual(done.returncode, 0, done.stderr)
        with open(out) as file:
            self.assertIn("<svg", file.read(400))
