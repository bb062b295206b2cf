"""rerun, init, completions and the man page."""

import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest

from program import PROGRAM, TINY, ProgramTest, rows, run, write_spec


class Rerun(ProgramTest):
    def setUp(self):
        super().setUp()
        spec = write_spec(self.folder, {**TINY, "grid": {"model.depth": [1]}, "seeds": 1})
        done = self.run_here("sweep", spec, "--out", "out")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.id = rows(os.path.join(self.folder, "out", "results.jsonl"))[0]["id"]
        self.run_folder = os.path.join(self.folder, "out", "runs", self.id)

    def test_the_bits_of_a_run_agree_with_those_of_its_repetition(self):
        done = self.run_here("rerun", "out")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(f"{self.id}: the bits agree: every row of the log, and the final weights", done.stdout)
        kept = self.run_here("rerun", f"out/{self.id[:6]}", "--out", "again", "--json")
        report = json.loads(kept.stdout)
        self.assertTrue(report["agree"] and report["weights_agree"])
        self.assertEqual(report["loss"][0], report["loss"][1])
        with open(os.path.join(self.run_folder, "log.jsonl")) as first, \
                open(os.path.join(self.folder, "again", "log.jsonl")) as second:
            self.assertEqual(first.read(), second.read())
        self.assertEqual(self.run_here("rerun", "out", "--out", "again").returncode, 2)

    def test_other_bits_are_told_with_the_step_and_the_status_is_1(self):
        log = os.path.join(self.run_folder, "log.jsonl")
        with open(log) as file:
            lines = file.read().splitlines(keepends=True)
        at = next(i for i, line in enumerate(lines) if json.loads(line)["step"] == 40)
        lines[at] = lines[at].replace('"loss":', '"loss":1', 1)
        with open(log, "w") as file:
            file.writelines(lines)
        done = self.run_here("rerun", "out")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("the bits differ: the logs part at step 40", done.stdout)

    def test_a_run_that_this_build_or_data_would_not_give_is_refused(self):
        moved = self.run_folder[:-4] + "feed"
        shutil.move(self.run_folder, moved)
        done = run("rerun", moved)
        self.assertEqual(done.returncode, 65, done.stderr)
        self.assertIn(f"give run {self.id} here", done.stderr)


class Init(ProgramTest):
    def test_the_spec_to_begin_with_plans_and_an_existing_file_stays(self):
        self.assertEqual(self.run_here("init", "mine.json").returncode, 0)
        done = self.run_here("plan", "mine.json", "--no-timing", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        plan = json.loads(done.stdout)
        self.assertEqual(plan["num_runs"], 8)
        for one in plan["runs"]:
            self.assertEqual(one["config"]["model"]["ffn_dim"], 4 * one["config"]["model"]["model_dim"])
        again = self.run_here("init", "mine.json")
        self.assertEqual(again.returncode, 2)
        self.assertIn("is there already", again.stderr)
        with open(os.path.join(self.folder, "mine.json")) as file:
            self.assertEqual(self.run_here("init", "-").stdout, file.read())

    def test_what_its_comments_offer_can_be_taken(self):
        text = self.run_here("init", "-").stdout
        exclude = text.replace('// "exclude"', '"exclude"')
        match = text.replace('// "match"', '"match"').replace('"= 4 * model_dim"', "64").replace(
            '"ffn_dim": 64  // derived: follows the axes below', '"bias": true')
        for name, content, expected in (("exclude", exclude, 6), ("match", match, 8)):
            with open(os.path.join(self.folder, name), "w") as file:
                file.write(content)
            done = self.run_here("plan", name, "--no-timing", "--json")
            self.assertEqual(done.returncode, 0, (name, done.stderr))
            self.assertEqual(json.loads(done.stdout)["num_runs"], expected)


class Completions(ProgramTest):
    def complete(self, line):
        """What bash offers behind this line."""
        script = (f'source <("{PROGRAM}" completions bash); COMP_WORDS=({line} ""); '
                  'COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _attnscale; printf "%s\\n" "${COMPREPLY[@]}"')
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=self.folder)
        self.assertEqual(done.stderr, "")
        return done.stdout.split()

    def test_bash_offers_every_command_and_the_flags_of_the_chosen_one(self):
        helped = re.findall(r"^  ([a-z]+) ", run("--help").stdout.split("Subcommands:")[1], re.M)
        self.assertGreater(len(helped), 20)
        self.assertEqual(set(helped) - set(self.complete("attnscale")), set())
        self.assertNotIn("worker", self.complete("attnscale"))
        self.assertIn("--where", self.complete("attnscale runs"))
        self.assertIn("--figure", self.complete("attnscale bench attention"))
        with open(os.path.join(self.folder, "spec.json"), "w") as file:
            file.write("{}")
        self.assertIn("spec.json", self.complete("attnscale sweep"))

    def test_other_shells_and_man_have_every_command_too(self):
        for what, words in (("zsh", "#compdef attnscale"), ("fish", "complete -c attnscale"), ("man", ".TH ATTNSCALE 1")):
            text = run("completions", what).stdout
            self.assertIn(words, text)
            for command in ("sweep", "runs", "fsck", "export"):
                self.assertIn(command, text)
        for shell in ("zsh", "fish"):
            if shutil.which(shell):
                script = run("completions", shell).stdout
                self.assertEqual(subprocess.run([shell, "-n", "/dev/stdin"], input=script, text=True).returncode, 0)

    def test_the_man_page_has_no_faults_of_its_form(self):
        if not shutil.which("groff"):
            self.skipTest("groff is not installed")
        with tempfile.NamedTemporaryFile("w", suffix=".1") as file:
            file.write(run("completions", "man").stdout)
            file.flush()
            done = subprocess.run(["groff", "-man", "-ww", "-Tutf8", file.name], capture_output=True, text=True)
        self.assertEqual(done.stderr, "")
        self.assertIn("EXIT STATUS", re.sub(".\x08|\x1b\\[[0-9;]*m", "", done.stdout))


if __name__ == "__main__":
    unittest.main()
