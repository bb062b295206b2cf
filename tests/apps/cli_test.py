"""The command line as a new user meets it: help, mistakes, pipes, full disks."""

import json
import os
import resource
import subprocess
import unittest

from program import PROGRAM, TINY, ProgramTest, rows, run, write_spec

COMMANDS = ["sweep", "plan", "train", "fit", "report", "export", "list", "describe", "verify", "bench", "schema", "docs",
            "doctor", "generate", "inspect", "compare", "coordinates", "optimum", "verdict", "draw", "runs", "diff", "why",
            "fsck", "rerun", "init", "completions"]


class Help(ProgramTest):
    def test_without_arguments_the_commands_are_shown_and_the_status_is_2(self):
        done = run()
        self.assertEqual(done.returncode, 2)
        self.assertEqual(done.stdout, "")
        for command in COMMANDS:
            self.assertIn(command, done.stderr)

    def test_every_command_has_help_with_an_example(self):
        for command in COMMANDS:
            done = run(command, "--help")
            self.assertEqual(done.returncode, 0, command)
            self.assertIn("Example", done.stdout, command)

    def test_the_worker_command_is_not_advertised(self):
        self.assertNotIn("worker", run("--help").stdout)

    def test_a_misspelt_command_or_flag_names_the_right_one(self):
        for arguments, expected in [(["swep", "x"], "sweep"), (["descrbe", "linear"], "describe"),
                                    (["sweep", "spec.json", "--job", "2"], "--jobs"),
                                    (["list", "variants", "--jsno"], "--json")]:
            done = run(*arguments)
            self.assertEqual(done.returncode, 2, arguments)
            self.assertIn(f'did you mean "{expected}"?', done.stderr, arguments)

    def test_a_known_flag_with_a_wrong_value_is_not_taken_for_a_misspelt_one(self):
        for arguments in (["sweep", "spec.json", "--jobs", "0"], ["sweep", "spec.json", "--jobs=0"],
                          ["sweep", "spec.json", "--device", "gpu"], ["fit", "x.csv", "--seed", "-1"]):
            done = run(*arguments)
            self.assertEqual(done.returncode, 2, (arguments, done.stderr))
            self.assertIn(arguments[2].split("=")[0], done.stderr)
            self.assertNotIn("did you mean", done.stderr)

    def test_a_malformed_set_is_usage_and_an_unknown_key_is_bad_input(self):
        spec = write_spec(self.folder, TINY)
        for text, status in (("model.depth", 2), ("=4", 2), ("model..depth=4", 2), ("model.detph=4", 65)):
            done = self.run_here("plan", spec, "--no-timing", "--set", text)
            self.assertEqual(done.returncode, status, (text, done.stderr))
            self.assertIn("--set", done.stderr)

    def test_a_device_that_is_not_there_is_refused_by_name(self):
        spec = write_spec(self.folder, {**TINY, "grid": {"model.depth": [1]}, "seeds": 1})
        self.assertEqual(self.run_here("train", spec, "--out", "out", "--device", "cpu").returncode, 0)
        done = self.run_here("train", spec, "--out", "cuda", "--device", "cuda")
        if done.returncode == 0:
            self.skipTest("a CUDA device is here")
        self.assertEqual(done.returncode, 65, done.stderr)
        self.assertIn("--set: base.train.device: received \"cuda\", but no CUDA device can be used here", done.stderr)

    def test_a_misspelt_variant_names_the_right_one(self):
        for command in (["describe", "slidding_window"], ["verify", "softmax", "slidding_window"],
                        ["bench", "attention", "--variants", "slidding_window"]):
            done = run(*command)
            self.assertEqual(done.returncode, 2, (command, done.stderr))
            self.assertIn('did you mean "sliding_window"?', done.stderr)
            self.assertEqual(done.stdout, "")

    def test_a_comparison_with_python_says_what_is_missing(self):
        for arguments, said in [(["--set", "model.norm=rms_norm"], "model.norm"),
                                (["--set", "attention.variant=linear"], "attention.variant"),
                                (["--set", "train.optimizer=lion"], "train.optimizer"),
                                (["--python", "no-such-python"], "no-such-python")]:
            done = run("bench", "train", "--against", "python", "--repetitions", 1, *arguments)
            self.assertEqual(done.returncode, 65, (arguments, done.stderr))
            self.assertIn(said, done.stderr)

    def test_the_memory_of_a_step_by_context(self):
        small = ["--set", "model.depth=1", "--set", "model.model_dim=8", "--set", "model.num_heads=1", "--set", "train.batch_size=1"]
        done = run("bench", "train", "--contexts", "2048,4096,8192", *small, "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        result = json.loads(done.stdout)
        self.assertEqual([row["context"] for row in result["rows"]], [2048, 4096, 8192])
        needed = [row["step_bytes"] for row in result["rows"]]
        self.assertLess(needed[0], needed[1])
        self.assertTrue(0.8 < result["exponent"] < 1.1, result)
        done = run("bench", "train", "--contexts", "256", *small, "--repetitions", 3)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("--contexts", done.stderr)

    def test_steps_that_grow_are_not_timed_as_if_they_were_of_one_size(self):
        done = run("bench", "train", "--set", "train.initial_batch_size=2")
        self.assertEqual(done.returncode, 65, done.stderr)
        self.assertIn("train.initial_batch_size: received a ramp, expected steps of one size", done.stderr)

    def test_version_is_the_one_of_the_build(self):
        with open(os.path.join(os.path.dirname(__file__), "..", "..", "CMakeLists.txt")) as file:
            text = file.read()
        version = text.split("project(attnscale VERSION ")[1].split()[0]
        self.assertEqual(run("--version").stdout.strip(), version)


class Json(ProgramTest):
    def test_list_variants(self):
        variants = json.loads(run("list", "variants", "--json").stdout)
        self.assertEqual({v["name"] for v in variants} & {"softmax", "sliding_window", "linformer", "linear",
                                                          "memory_compressed"},
                         {"softmax", "sliding_window", "linformer", "linear", "memory_compressed"})
        for variant in variants:
            self.assertEqual({"name", "family", "source", "traits", "options"} - set(variant), set())

    def test_describe_knows_every_listed_name(self):
        for what in ("variants", "sources"):
            for entry in json.loads(run("list", what, "--json").stdout):
                described = json.loads(run("describe", entry["name"], "--json").stdout)
                self.assertEqual(described, entry)
                self.assertIn(entry["name"], run("describe", entry["name"]).stdout)

    def test_schema_is_json_and_names_every_section(self):
        schema = json.loads(run("schema").stdout)
        self.assertEqual(set(schema["properties"]["base"]["properties"]), {"model", "attention", "data", "train"})

    def test_the_shipped_schema_is_the_programs(self):
        with open(os.path.join(os.path.dirname(__file__), "..", "..", "experiments", "spec.schema.json")) as file:
            self.assertEqual(json.load(file), json.loads(run("schema").stdout))

    def test_plan_prints_one_document_and_trains_nothing(self):
        done = self.run_here("plan", write_spec(self.folder, TINY), "--json", "--no-timing")
        plan = json.loads(done.stdout)
        self.assertEqual(plan["num_runs"], 8)
        self.assertEqual(os.listdir(self.folder), ["spec.json"])


class Propose(ProgramTest):
    SPEC = {"name": "small", "base": {"model": {"depth": 1, "num_heads": 1, "model_dim": 4}, "attention": {"variant": "softmax"},
                                      "data": {"source": "zipf_memory", "num_keys": 16, "context": 16},
                                      "train": {"batch_size": 4, "warmup_steps": 5, "eval_tokens": 256}}}

    def test_a_budget_of_flops_gives_a_spec_that_keeps_to_it_and_says_what_intervals_it_reaches(self):
        spec = write_spec(self.folder, self.SPEC)
        for design in ("grid", "isoflop"):
            done = self.run_here("plan", spec, "--flops", "3e10", "--design", design, "--write", "proposed.json", "--json")
            self.assertEqual(done.returncode, 0, done.stderr)
            proposal = json.loads(done.stdout)
            plan = json.loads(self.run_here("plan", "proposed.json", "--json", "--no-timing").stdout)
            self.assertEqual(plan["num_runs"], proposal["runs"])
            flops = sum(run["flops"] for run in plan["runs"])
            self.assertLessEqual(flops, 3e10)
            self.assertAlmostEqual(flops / proposal["flops"], 1, 2)
            self.assertEqual({each["name"] for each in proposal["intervals"]}, {"E", "alpha", "beta", "N_exponent"})

    def test_an_exponent_that_the_budget_cannot_give_is_not_promised_and_no_budget_is_refused(self):
        spec = write_spec(self.folder, self.SPEC)
        small = self.run_here("plan", spec, "--flops", "3e9", "--noise", "0.05")
        self.assertEqual(small.returncode, 0, small.stderr)
        self.assertIn("NOT promised", small.stdout)
        self.assertEqual(self.run_here("plan", spec, "--flops", "1e6").returncode, 65)
        self.assertEqual(self.run_here("plan", spec, "--flops", "1e9", "--budget", "1h").returncode, 2)
        self.assertEqual(self.run_here("plan", spec, "--write", "x.json").returncode, 2)
        self.assertEqual(self.run_here("plan", spec, "--budget", "soon").returncode, 2)

    def test_the_next_runs_of_a_sweep_are_new_ones_within_the_budget(self):
        spec = json.loads(json.dumps(self.SPEC))
        spec["grid"] = {"model.model_dim": [4, 8, 16], "train.steps": [60, 120, 240]}
        path = write_spec(self.folder, spec)
        # Results as a law would have them: training nine tiny models need not show one.
        os.makedirs(os.path.join(self.folder, "out"))
        with open(os.path.join(self.folder, "out", "results.jsonl"), "w") as file:
            for run in json.loads(self.run_here("plan", path, "--json", "--no-timing").stdout)["runs"]:
                loss = 1.7 + 6 * run["parameters"]["total"] ** -0.5 + 40 * run["tokens"] ** -0.5
                row = {"id": run["id"], "status": "done", "loss": loss, "params": run["parameters"]["total"], "tokens": run["tokens"],
                       "flops": run["flops"], "seed": run["config"]["train"]["seed"], "config": run["config"]}
                file.write(json.dumps(row) + "\n")
        done = self.run_here("plan", path, "--adaptive", "out", "--flops", "2e9", "--write", "next.json", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        proposal = json.loads(done.stdout)
        before = {each["name"]: each["half_width"] for each in proposal["intervals_before"]}
        for each in proposal["intervals"]:
            self.assertLess(each["half_width"], before[each["name"]])
        plan = json.loads(self.run_here("plan", "next.json", "--json", "--no-timing").stdout)
        self.assertLessEqual(sum(run["flops"] for run in plan["runs"]), 2e9)
        known = {row["id"] for row in rows(os.path.join(self.folder, "out", "results.jsonl"))}
        self.assertFalse(known & {run["id"] for run in plan["runs"]})


class Sweep(ProgramTest):
    def test_a_sweep_leaves_everything_and_a_second_call_trains_nothing(self):
        spec = write_spec(self.folder, TINY)
        first = self.run_here("sweep", spec, "--out", "out")
        self.assertEqual(first.returncode, 0, first.stderr)
        out = os.path.join(self.folder, "out")
        for name in ("spec.json", "plan.json", "results.jsonl", "scaling.json", "report.html"):
            self.assertTrue(os.path.getsize(os.path.join(out, name)) > 0, name)
        table = rows(os.path.join(out, "results.jsonl"))
        self.assertEqual(len(table), 8)
        for row in table:
            self.assertEqual({"id", "status", "loss", "params", "tokens", "flops", "seed", "config"} - set(row), set())
            self.assertEqual(row["status"], "done")
            self.assertGreater(row["excess"], -0.02)
        before = {row["id"]: os.stat(os.path.join(out, "runs", row["id"], "result.json")).st_mtime_ns for row in table}
        second = self.run_here("sweep", spec, "--out", "out")
        self.assertEqual(second.returncode, 0)
        self.assertIn("8 of 8 runs are done already", second.stderr)
        for row in table:
            self.assertEqual(os.stat(os.path.join(out, "runs", row["id"], "result.json")).st_mtime_ns, before[row["id"]])

    def test_a_damaged_result_is_done_again_and_ends_equal(self):
        from program import stable
        spec = write_spec(self.folder, TINY)
        self.run_here("sweep", spec, "--out", "out")
        table = os.path.join(self.folder, "out", "results.jsonl")
        before = list(map(stable, rows(table)))
        with open(os.path.join(self.folder, "out", "runs", before[0]["id"], "result.json"), "w") as file:
            file.write('{"loss":')
        again = self.run_here("sweep", spec, "--out", "out")
        self.assertEqual(again.returncode, 0, again.stderr)
        self.assertIn("doing this run again", again.stderr)
        self.assertEqual(list(map(stable, rows(table))), before)

    def test_results_do_not_depend_on_the_number_of_workers(self):
        from program import stable
        spec = write_spec(self.folder, TINY)
        self.run_here("sweep", spec, "--out", "one", "--jobs", "1")
        self.run_here("sweep", spec, "--out", "three", "--jobs", "3")
        one, three = (rows(os.path.join(self.folder, name, "results.jsonl")) for name in ("one", "three"))
        self.assertEqual(list(map(stable, one)), list(map(stable, three)))

    def test_train_does_one_run_and_refuses_a_sweep(self):
        spec = write_spec(self.folder, TINY)
        done = self.run_here("train", spec, "--out", "out")
        self.assertEqual(done.returncode, 2)
        self.assertIn("plans 8 runs", done.stderr)
        done = self.run_here("train", spec, "--out", "out", "--set", "model.depth=1", "--set",
                             'attention={"variant":"softmax"}', "--set", "seeds=1")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len(rows(os.path.join(self.folder, "out", "results.jsonl"))), 1)

    def test_a_state_that_cannot_be_written_is_refused_before_decoding_or_costs_no_tokens(self):
        spec = write_spec(self.folder, {**TINY, "grid": {"attention": [{"variant": "linear"}]}, "seeds": 1})
        done = self.run_here("train", spec, "--out", "out")
        self.assertEqual(done.returncode, 0, done.stderr)
        generate = ["generate", "out", "--prompt", "1 2", "--tokens", "4", "--save-state"]
        os.mkdir(os.path.join(self.folder, "taken"))
        for place in ("no/such/folder/state", "taken"):
            done = self.run_here(*generate, place)
            self.assertEqual(done.returncode, 74, done.stderr)
            self.assertIn(place, done.stderr)
            self.assertEqual(done.stdout, "")
        whole = self.run_here(*generate, "state")
        self.assertEqual(whole.returncode, 0, whole.stderr)
        self.assertEqual(len(whole.stdout.split()), 6)
        # A file may have 16 bytes here, less than any state.
        for form in ([], ["--json"]):
            full = self.run_here(*generate, "other", *form, restore_signals=False,
                                 preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (16, 16)))
            self.assertEqual(full.returncode, 74, full.stderr)
            self.assertIn(whole.stdout.split(maxsplit=2)[2].strip(), full.stdout)
        self.assertEqual(sorted(name for name in os.listdir(self.folder) if "tmp" in name or name == "other"), [])

    def test_stages_can_be_done_again_from_the_files(self):
        spec = write_spec(self.folder, TINY)
        self.run_here("sweep", spec, "--out", "out")
        os.remove(os.path.join(self.folder, "out", "report.html"))
        self.assertEqual(self.run_here("report", "out").returncode, 0)
        self.assertTrue(os.path.exists(os.path.join(self.folder, "out", "report.html")))
        fit = json.loads(self.run_here("fit", "out", "--json").stdout)
        self.assertEqual(fit["n_points"], 8)
        table = self.run_here("export", "out", "--format", "csv").stdout
        self.assertEqual(len(table.strip().splitlines()), 9)
        lines = self.run_here("export", "out", "--format", "jsonl").stdout.strip().splitlines()
        self.assertEqual(len([json.loads(line) for line in lines]), 8)

    def test_a_diverged_run_is_a_result_and_the_sweep_goes_on(self):
        spec = write_spec(self.folder, {**TINY, "grid": {"train.learning_rate": [1e-3, 1e12]}, "seeds": 1,
                                        "base": {**TINY["base"], "train": {**TINY["base"]["train"], "clip_norm": 0}}})
        done = self.run_here("sweep", spec, "--out", "out")
        self.assertEqual(done.returncode, 1, done.stderr)
        table = rows(os.path.join(self.folder, "out", "results.jsonl"))
        self.assertEqual([row["status"] for row in table], ["done", "diverged"])
        self.assertNotIn("loss", table[1])
        self.assertGreaterEqual(table[1]["diverged_at"], 1)
        self.assertTrue(os.path.exists(os.path.join(self.folder, "out", "report.html")))


class Surroundings(ProgramTest):
    def test_a_reader_that_leaves_is_no_error(self):
        command = f'"{PROGRAM}" schema | head -c 10 > /dev/null; echo ${{PIPESTATUS[0]}}'
        done = subprocess.run(["bash", "-c", command], text=True, capture_output=True)
        self.assertEqual(done.stdout.strip(), "0")
        self.assertEqual(done.stderr, "")

    def test_standard_output_on_a_full_disk_is_status_74(self):
        with open("/dev/full", "w") as full:
            done = run("schema", stdout=full)
        self.assertEqual(done.returncode, 74)
        self.assertIn("No space left", done.stderr)

    def test_help_on_a_full_disk_is_status_74(self):
        for arguments in (["--help"], ["sweep", "--help"], ["--version"]):
            with open("/dev/full", "w") as full:
                self.assertEqual(run(*arguments, stdout=full).returncode, 74, arguments)

    def test_a_spec_that_is_no_regular_file_is_refused_at_once(self):
        os.mkfifo(os.path.join(self.folder, "pipe"))
        for place, kind in (("/dev/zero", "a pipe or a device"), ("pipe", "a pipe or a device"), (".", "a folder")):
            done = self.run_here("plan", place, timeout=10)
            self.assertEqual(done.returncode, 74, done.stderr)
            self.assertIn(f"{place}: is {kind}, expected a regular file", done.stderr)

    def test_a_spec_may_come_from_standard_input(self):
        for name in ("-", "/dev/stdin"):
            done = subprocess.run([PROGRAM, "plan", name, "--no-timing", "--json"], input=json.dumps(TINY), text=True,
                                  capture_output=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(json.loads(done.stdout)["num_runs"], 8)
        done = subprocess.run([PROGRAM, "plan", "-"], input='{"gird": {}}', text=True, capture_output=True)
        self.assertIn("<stdin>:1:2: gird: unknown key", done.stderr)

    def test_a_folder_that_cannot_be_written_is_status_74_and_named(self):
        spec = write_spec(self.folder, TINY)
        for out in ("/proc/attnscale", os.path.join(spec, "inside-a-file")):
            done = self.run_here("sweep", spec, "--out", out)
            self.assertEqual(done.returncode, 74, done.stderr)
            self.assertIn(out, done.stderr)

    def test_a_disk_that_fills_during_a_sweep_is_status_74_and_resumes_when_there_is_room(self):
        disk = os.path.join(self.folder, "disk")
        os.mkdir(disk)
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", disk], capture_output=True)
        if mounted.returncode != 0:
            self.skipTest("cannot mount a small file system here: " + mounted.stderr.decode().strip())
        try:
            spec = write_spec(self.folder, TINY)
            full = self.run_here("sweep", spec, "--out", os.path.join(disk, "out"))
            self.assertEqual(full.returncode, 74, full.stderr)
            self.assertIn("No space left", full.stderr)
            subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
            again = self.run_here("sweep", spec, "--out", os.path.join(disk, "out"))
            self.assertEqual(again.returncode, 0, again.stderr)
            self.assertEqual(len(rows(os.path.join(disk, "out", "results.jsonl"))), 8)
        finally:
            subprocess.run(["umount", disk], check=True)

    def test_missing_files_say_so(self):
        for arguments, status in [(["sweep", "absent.json"], 74), (["report", "absent"], 74), (["fit", "absent.csv"], 74),
                                  (["export", "absent", "--format", "csv"], 74)]:
            done = self.run_here(*arguments)
            self.assertEqual(done.returncode, status, (arguments, done.stderr))
            self.assertIn("absent", done.stderr)

    def test_progress_goes_to_standard_error_as_plain_lines_without_a_terminal(self):
        done = self.run_here("sweep", write_spec(self.folder, TINY), "--out", "out")
        self.assertNotIn("\x1b", done.stderr + done.stdout)
        self.assertNotIn("\r", done.stderr + done.stdout)
        self.assertIn("8/8 runs", done.stderr)

    def test_numbers_do_not_depend_on_the_locale(self):
        spec = write_spec(self.folder, TINY)
        self.run_here("sweep", spec, "--out", "out")
        plain = self.run_here("export", "out", "--format", "csv").stdout
        german = self.run_here("export", "out", "--format", "csv", env={**os.environ, "LC_ALL": "de_DE.UTF-8"}).stdout
        self.assertEqual(plain, german)


if __name__ == "__main__":
    unittest.main()
