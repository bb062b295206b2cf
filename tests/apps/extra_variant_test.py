"""A variant in one file outside lib/ (docs/examples) is in list, describe, verify, sweep and report."""

import json
import os
import pathlib
import subprocess
import tempfile
import unittest

PROGRAM = os.environ["ATTNSCALE_PROGRAM"]
NAME = "decayed_product"


def run(*arguments):
    done = subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        raise AssertionError(f"{arguments}: status {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


class ExtraVariant(unittest.TestCase):
    def test_it_is_listed_and_described(self):
        listed = {variant["name"]: variant for variant in json.loads(run("list", "variants", "--json"))}
        self.assertIn(NAME, listed)
        self.assertIn("softmax", listed)
        self.assertEqual(json.loads(run("describe", NAME, "--json"))["options"][0]["name"], "decay")

    def test_it_is_proven(self):
        proof = json.loads(run("verify", NAME, "--json"))
        self.assertTrue(proof["passed"], [c for c in proof["variants"][0]["checks"] if not c["passed"]])

    def test_a_sweep_trains_it_beside_softmax_and_the_report_names_it(self):
        spec = {
            "name": "extra",
            "base": {
                "model": {"depth": 1, "model_dim": 16, "num_heads": 2},
                "data": {"source": "copy", "alphabet": 4, "context": 16},
                "train": {"steps": 10, "warmup_steps": 2, "batch_size": 4, "eval_tokens": 256},
            },
            "grid": {"attention": [{"variant": "softmax"}, {"variant": NAME, "decay": 0.7}]},
        }
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            (folder / "spec.json").write_text(json.dumps(spec))
            run("sweep", folder / "spec.json", "--out", folder / "out", "--jobs", "1")
            rows = [json.loads(line) for line in (folder / "out/results.jsonl").read_text().splitlines()]
            self.assertEqual({(row["variant"], row["status"]) for row in rows}, {("softmax", "done"), (NAME, "done")})
            proofs = {v["name"]: v["passed"] for v in json.loads((folder / "out/certificate.json").read_text())["variants"]}
            self.assertEqual(proofs, {"softmax": True, NAME: True})
            page = (folder / "out/report.html").read_text()
            self.assertIn(f"{NAME} proven", page)


if __name__ == "__main__":
    unittest.main()
