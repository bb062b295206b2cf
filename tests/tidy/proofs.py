"""Which reference each option is held to: tests/tidy/proofs.txt, checked, and docs/reference/proofs.md, made of it.

A line is `option | compared with | test`. Faults are an option of `model` or `train`, as `attnscale schema` prints them,
without a line; a line about no option; and a test that is nowhere under tests/. Used by tidy.py.
"""

import json
import pathlib
import re
import subprocess

SOURCE = pathlib.PurePosixPath("tests/tidy/proofs.txt")
PAGE = pathlib.PurePosixPath("docs/reference/proofs.md")
HEAD = """# What each option is held to

Every option of `model` and `train` is held to a reference outside the code that it is an option of: a published implementation, a
paper's equation written out in a test, or numbers found by hand. Tests that begin with `references:` need Python packages, which
`scripts/test.sh --references` installs. `tests/tidy/proofs.txt` holds this table; a test checks that no option lacks a line and that every
test exists. What variants are compared with stands in [outside.md](outside.md), and what each proves about itself in its certificate.

| option | compared with | test |
|---|---|---|
"""


def lines_of(tree):
    """(line number, option, compared with, test), or (line number, None, the line, None) where it is no such line."""
    for number, line in tree.numbered(SOURCE):
        if line.strip() and not line.startswith("#"):
            parts = [part.strip() for part in line.split("|")]
            yield (number, *parts) if len(parts) == 3 and all(parts) else (number, None, line, None)


def page_of(tree):
    return HEAD + "".join(f"| `{option}` | {reference} | {test} |\n"
                          for _, option, reference, test in lines_of(tree) if option)


def options_of(program):
    run = subprocess.run([program, "schema"], capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    sections = json.loads(run.stdout)["properties"]["base"]["properties"]
    return [f"{section}.{name}" for section in ("model", "train") for name in sections[section]["properties"]
            if (section, name) != ("model", "layers")]  # which layers have which variant is no option of one


def tests_in(tree):
    """Names of tests as Catch2 and CMake know them; those of a loop have its values put in."""
    names = set()
    for path in tree.paths:
        if path.parts[0] == "tests" and path.name.endswith("_test.cpp"):
            names |= set(re.findall(r'TEST_CASE\(\s*"((?:[^"\\]|\\.)*)"', tree.read(path)))
        elif path.parts[0] == "tests" and path.name == "CMakeLists.txt":
            text = tree.read(path)
            names |= {f"references: {name}" for name in re.findall(r'reference_test\("([^"]*)"', text)}
            for variable, values, body in re.findall(r"foreach\((\w+)\s([^)]*)\)(.*?)endforeach", text, re.S):
                for name in re.findall(r'reference_test\("([^"]*)"', body):
                    names |= {"references: " + name.replace("${" + variable + "}", value) for value in values.split()}
    return names


def check(tree, program):
    if SOURCE not in tree.paths:
        return
    options, tests, seen = options_of(program), tests_in(tree), set()
    for number, option, reference, test in lines_of(tree):
        if option is None:
            yield f"{SOURCE}:{number}: expected `option | compared with | test`: {reference}"
            continue
        seen.add(option)
        if option not in options:
            yield f"{SOURCE}:{number}: there is no option {option}"
        if test not in tests:
            yield f'{SOURCE}:{number}: no test under tests/ is named "{test}"'
    for option in options:
        if option not in seen:
            yield f"{SOURCE}:1: {option} has no line; name what it is compared with, and the test that does it"
    if PAGE not in tree.paths or tree.read(PAGE) != page_of(tree):
        yield f"{PAGE}:1: is not what {SOURCE} says; tests/tidy/tidy.py --write --program build/attnscale mends it"


def write(tree):
    if SOURCE in tree.paths and (PAGE not in tree.paths or tree.read(PAGE) != page_of(tree)):
        (tree.root / PAGE).parent.mkdir(parents=True, exist_ok=True)
        (tree.root / PAGE).write_bytes(page_of(tree).encode())
        print(f"{PAGE}: written")
