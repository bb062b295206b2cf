#!/usr/bin/env python3
"""Plants one fault at a time in a small clean tree and sees tidy.py find it, with its place, and nothing else."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

TIDY = pathlib.Path(__file__).with_name("tidy.py")

README = """# x

<!-- tree -->
```
lib/core/        ground
lib/tensor/      shapes
lib/attention/   variants
lib/scaling/     fits
tests/           mirrors lib/
experiments/<name>/  one each
```
"""

CLEAN = {
    "README.md": README,
    "lib/core/a.h": "#pragma once\n",
    "lib/core/a.cpp": '#include "core/a.h"\n#include <string>\n',
    "lib/tensor/b.cpp": '#include <torch/types.h>\n\n#include "core/a.h"\n',
    "lib/attention/registry.h": "#pragma once\n",
    "lib/attention/variants/v.cpp": '#include "attention/registry.h"\n',
    "lib/scaling/c.cpp": '#include "core/a.h"\n',
    "tests/core/a_test.cpp": '#include "core/a.h"\n',
    "tests/attention/v_test.cpp": '#include "attention/registry.h"\n',
    "experiments/quick/spec.json": "{}\n",
}


class Planted(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.root = pathlib.Path(self.folder.name)
        for path, text in CLEAN.items():
            self.write(path, text)

    def tearDown(self):
        self.folder.cleanup()

    def write(self, path, text):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode())

    def tidy(self, *options):
        command = [sys.executable, str(TIDY), "--root", str(self.root), *options]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        return run.returncode, run.stdout + run.stderr

    def passes(self, *options):
        status, output = self.tidy(*options)
        self.assertEqual(status, 0, output)

    def finds(self, expected, *options):
        status, output = self.tidy(*options)
        self.assertEqual(status, 1, output)
        self.assertIn(expected, output)
        self.assertIn(", 1 faults", output)

    def test_a_clean_tree_passes(self):
        self.passes("--strict")

    def test_an_include_against_the_direction(self):
        self.write("lib/core/a.cpp", '#include "core/a.h"\n#include "tensor/b.h"\n')
        self.finds("lib/core/a.cpp:2: core includes tensor/b.h; it may include no other module")

    def test_a_sideways_include(self):
        self.write("lib/scaling/c.cpp", '#include "tensor/b.h"\n')
        self.finds("lib/scaling/c.cpp:1: scaling includes tensor/b.h; it may include core")

    def test_a_variant_reached_past_the_registry(self):
        self.write("lib/attention/w.cpp", '#include "attention/variants/v.h"\n')
        self.finds("lib/attention/w.cpp:1: includes attention/variants/v.h")

    def test_libtorch_where_it_must_not_be(self):
        for header in ("torch/types.h", "ATen/ATen.h", "c10/util/Half.h"):
            self.write("lib/scaling/c.cpp", f"#include <{header}>\n")
            self.finds(f"lib/scaling/c.cpp:1: scaling includes <{header}>")

    def test_the_expensive_header(self):
        self.write("lib/tensor/b.cpp", "#include <torch/torch.h>\n")
        self.finds("lib/tensor/b.cpp:1: includes <torch/torch.h>")

    def test_a_module_that_nobody_placed(self):
        self.write("lib/stray/s.cpp", "int x;\n")
        self.write("README.md", README.replace("tests/  ", "lib/stray/\ntests/  "))
        self.finds("lib/stray: has no place in the diagram")

    def test_a_file_too_long_by_one_line(self):
        self.write("lib/tensor/b.cpp", "int x;\n" * 400)
        self.passes()
        self.write("lib/tensor/b.cpp", "int x;\n" * 401)
        self.finds("lib/tensor/b.cpp:1: 401 lines")

    def test_whitespace(self):
        faults = {"int\tx;\n": ":1: a tab", "int x; \n": ":1: blanks", "int x;": ":1: no newline", "int x;\r\n": ":1: blanks"}
        for text, expected in faults.items():
            self.write("lib/tensor/b.cpp", text)
            self.finds("lib/tensor/b.cpp" + expected)

    def test_paths_of_one_machine(self):
        for folder in ("home", "root", "Users", "work", "opt"):
            self.write("lib/tensor/b.cpp", f"// see /{folder}/ann/notes\n")
            self.finds("lib/tensor/b.cpp:1: a path of one machine")

    def test_other_paths_are_no_machine_paths(self):
        self.write("lib/tensor/b.cpp", "// shared/work/x, $HOME/opt/x, ../opt/y, https://example.net/home/x\n")
        self.passes()

    def test_registry_hosts(self):
        for host in ("pypi" + ".org", "registry.npmjs" + ".org", "deb" + ".debian.org"):
            self.write("lib/tensor/b.cpp", f"// from https://{host}/x\n")
            self.finds("lib/tensor/b.cpp:1: the host of a package registry")

    def test_a_tree_that_shows_what_is_not_there(self):
        self.write("README.md", README.replace("lib/tensor/ ", "lib/tensor/\nlib/gone/ "))
        self.finds("README.md:7: the tree shows lib/gone, which does not exist")

    def test_a_tree_that_lacks_a_folder(self):
        self.write("README.md", README.replace("lib/scaling/     fits\n", ""))
        self.finds("README.md:3: the tree lacks lib/scaling/")

    def test_a_readme_without_a_tree(self):
        self.write("README.md", "# x\n")
        self.finds("README.md:1: no <!-- tree --> marker")

    def test_a_source_file_without_a_test(self):
        (self.root / "tests/core/a_test.cpp").unlink()
        self.write("tests/core/z_test.cpp", '#include "core/a.h"\n')
        self.passes("--strict")
        self.write("tests/core/z_test.cpp", "int x;\n")
        self.passes()
        self.finds("lib/core/a.cpp: no tests/core/a_test.cpp", "--strict")
        self.write("tests/tidy/covered_elsewhere.txt", "# why\nlib/core/a.cpp tests/core/z_test.cpp\n")
        self.passes("--strict")
        self.write("tests/tidy/covered_elsewhere.txt",
                   "lib/core/a.cpp tests/core/z_test.cpp\nlib/core/a.cpp tests/core/gone_test.cpp\n")
        self.finds("tests/tidy/covered_elsewhere.txt:2: expected a source file and its test", "--strict")

    def test_generated_sections(self):
        self.write("program", '#!/bin/sh\n[ "$*" = "docs options" ] || exit 2\nprintf "| a |\\n| b |\\n"\n')
        (self.root / "program").chmod(0o755)
        program = ("--program", str(self.root / "program"))
        section = "<!-- generated: attnscale docs options -->\n{}<!-- end -->\n"
        self.write("options.md", section.format("| a |\n| b |\n"))
        self.passes(*program)
        for stale in ("| a |\n| c |\n", "| a |\n"):
            self.write("options.md", section.format(stale))
            self.finds("options.md:1: differs from what `attnscale docs options` prints, at its line 2:", *program)
        self.passes("--write", *program)
        self.assertEqual((self.root / "options.md").read_text(), section.format("| a |\n| b |\n"))
        self.write("options.md", section.replace("options", "nonsense").format(""))
        self.finds("options.md:1: cannot be generated: attnscale docs nonsense ended with status 2", *program)

    def test_proofs_of_options(self):
        schema = '{"properties": {"base": {"properties": {"model": {"properties": {"depth": {}, "layers": {}}}, ' \
                 '"train": {"properties": {"steps": {}}}}}}}'
        self.write("program", f"#!/bin/sh\n[ \"$*\" = schema ] || exit 2\necho '{schema}'\n")
        (self.root / "program").chmod(0o755)
        program = ("--program", str(self.root / "program"))
        self.write("README.md", README.replace("tests/  ", "docs/            pages\ntests/  "))
        self.write("tests/core/b_test.cpp", 'TEST_CASE("depth: three blocks") {}\n')
        self.write("tests/references/CMakeLists.txt",
                   'foreach(model one two)\n  reference_test("logits of ${model}" x.py)\nendforeach()\n')
        good = "model.depth | by hand | depth: three blocks\ntrain.steps | theirs | references: logits of two\n"
        self.write("tests/tidy/proofs.txt", "# a note\n" + good)
        self.passes("--write", *program)
        self.passes(*program)
        for line, expected in (("model.depth | by hand | depth: four blocks\n", "proofs.txt:4: no test under tests/"),
                               ("train.step | by hand | depth: three blocks\n", "proofs.txt:4: there is no option train.step"),
                               ("train.steps by hand\n", "proofs.txt:4: expected `option |")):
            self.write("tests/tidy/proofs.txt", "# a note\n" + good + line)
            self.tidy("--write", *program)
            self.finds(expected, *program)
        self.write("tests/tidy/proofs.txt", good.split("\n")[0] + "\n")
        self.tidy("--write", *program)
        self.finds("proofs.txt:1: train.steps has no line", *program)
        self.write("docs/reference/proofs.md", "old\n")
        self.write("tests/tidy/proofs.txt", good)
        self.finds("docs/reference/proofs.md:1: is not what", *program)


if __name__ == "__main__":
    unittest.main()
