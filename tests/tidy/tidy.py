#!/usr/bin/env python3
"""Hygiene of the tree: what a reviewer would otherwise have to look for in every change.

usage: tests/tidy/tidy.py [--root DIR] [--program build/attnscale] [--strict] [--write]

Each rule is a function that yields one line per fault: place, what is wrong, how to mend it. Rules:
  includes        modules include only what lies below them (ALLOWED); LibTorch stays out of four of them
  torch_header    <torch/torch.h>, which costs seconds per file, is not included in lib
  file_size       at most 400 lines in lib and apps
  whitespace      no tabs, no trailing blanks, a newline at the end
  places          no paths of one machine and no hosts of package registries
  tree            README's tree (the block after <!-- tree -->) names what exists, and all of it
  generated       sections between <!-- generated: attnscale ARGUMENTS --> and <!-- end --> are what that prints
  proofs          every option names what it is compared with and a test that exists (proofs.py)
  tests           every lib/x/y.cpp with public functions has tests/x/y_test.cpp, or a test in tests/x includes its
                  header, or covered_elsewhere.txt says where it is tested (a note; a fault with --strict)
What this does not do: formatting (.clang-format) and code analysis (.clang-tidy).

--write rewrites the generated sections instead of checking them. Exit code: 0 clean, 1 faults, 2 usage.
"""

import argparse
import pathlib
import re
import subprocess
import sys

import proofs

# What each module may include besides itself. Mirrors the diagram in lib/CMakeLists.txt; apps and tests see all.
ALLOWED = {
    "core": set(),
    "tensor": {"core"},
    "attention": {"core", "tensor"},
    "data": {"core"},
    "model": {"core", "tensor", "attention"},
    "train": {"core", "tensor", "attention", "model", "data", "diagnostics"},
    "diagnostics": {"core", "tensor", "attention", "model"},
    "sweep": {"core", "tensor", "attention", "model", "data", "train"},
    "bench": {"core", "tensor", "attention", "model", "data", "train", "sweep"},
    "scaling": {"core"},
    "report": {"core", "scaling"},
}
WITHOUT_TORCH = {"core", "data", "scaling", "report"}
MAX_LINES = 400

CODE = {".cpp", ".h", ".c", ".in"}
TEXT = CODE | {".py", ".sh", ".cmake", ".txt", ".md", ".json", ".yml", ".yaml", ".html", ".css", ".js"}
TEXT_NAMES = {"LICENSE", "run", ".clang-format", ".clang-tidy", ".editorconfig", ".gitignore"}
README = pathlib.PurePosixPath("README.md")
ELSEWHERE = pathlib.PurePosixPath("tests/tidy/covered_elsewhere.txt")

INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]')
# Absolute paths of home and work folders; the pattern does not match its own text.
MACHINE_PATH = re.compile(r"(?<![\w.~$}/-])/(?:home|Users|root|work|opt)/\w")
# Put together from parts, so that this file does not name them either.
REGISTRY_HOSTS = [("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("npmjs", "com"), ("crates", "io"),
                  ("anaconda", "org"), ("deb", "debian.org"), ("snapshot", "debian.org"), ("download", "pytorch.org"),
                  ("rubygems", "org")]
REGISTRY = re.compile("|".join(rf"\b{re.escape(f'{name}.{domain}')}\b" for name, domain in REGISTRY_HOSTS))
GENERATED = re.compile(r"(<!-- generated: attnscale (?P<arguments>[^>\n]*?) -->\n)(?P<text>.*?)(?P<end><!-- end -->)",
                       re.S)


class Tree:
    """The project's files: those that git tracks or would track, without what it ignores."""

    def __init__(self, root):
        self.root = root
        self.paths = sorted(self._list())
        self._texts = {}

    def _list(self):
        if (self.root / ".git").exists():
            listing = subprocess.run(
                ["git", "-C", str(self.root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                capture_output=True, check=False)
            if listing.returncode == 0:
                names = {name for name in listing.stdout.decode().split("\0") if name}
                return [pathlib.PurePosixPath(name) for name in names if (self.root / name).is_file()]
        # A source archive has no git: leave out what .gitignore names.
        ignored = re.compile(r"^(build(-[^/]*)?|results|\.git|\.cache)(/|$)|__pycache__")
        names = (path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_file())
        return [pathlib.PurePosixPath(name) for name in names if not ignored.search(name)]

    def read(self, path):
        # Bytes first: universal newlines would hide a carriage return.
        if path not in self._texts:
            self._texts[path] = (self.root / path).read_bytes().decode("utf-8", errors="replace")
        return self._texts[path]

    def numbered(self, path):
        return enumerate(self.read(path).split("\n"), 1)

    def code(self, *folders):
        return [p for p in self.paths if p.parts[0] in folders and p.suffix in CODE]

    def text(self):
        return [p for p in self.paths if p.suffix in TEXT or p.name in TEXT_NAMES]


def includes(tree, *folders):
    for path in tree.code(*folders):
        for number, line in tree.numbered(path):
            match = INCLUDE.match(line)
            if match:
                yield path, number, match.group(1)


def check_includes(tree):
    for module in sorted({p.parts[1] for p in tree.code("lib") if len(p.parts) > 2} - set(ALLOWED)):
        yield f"lib/{module}: has no place in the diagram; add it to ALLOWED in tests/tidy/tidy.py"
    for path, number, target in includes(tree, "lib"):
        module, first = path.parts[1], target.split("/")[0]
        if module not in ALLOWED:
            continue
        if first in ALLOWED and first != module and first not in ALLOWED[module]:
            below = ", ".join(sorted(ALLOWED[module])) or "no other module"
            yield f"{path}:{number}: {module} includes {target}; it may include {below}. Move the code, or turn it round"
        if target.startswith("attention/variants/") and "variants" not in path.parts:
            yield f"{path}:{number}: includes {target}; a variant is reached through attention/registry.h only"
        if module in WITHOUT_TORCH and first in {"torch", "ATen", "c10", "caffe2"}:
            yield f"{path}:{number}: {module} includes <{target}>; it must build without LibTorch"


def check_torch_header(tree):
    for path, number, target in includes(tree, "lib"):
        if target == "torch/torch.h":
            yield f"{path}:{number}: includes <torch/torch.h> (11 s a file); include the headers that are used"


def check_file_size(tree):
    for path in tree.code("lib", "apps"):
        size = tree.read(path).count("\n")
        if size > MAX_LINES:
            yield f"{path}:1: {size} lines, at most {MAX_LINES}; look for the second idea and give it a file"


def check_whitespace(tree):
    for path in tree.text():
        text = tree.read(path)
        if text and not text.endswith("\n"):
            yield f"{path}:{text.count(chr(10)) + 1}: no newline at the end of the file"
        for number, line in tree.numbered(path):
            if "\t" in line:
                yield f"{path}:{number}: a tab; indent with spaces"
            elif line != line.rstrip():
                yield f"{path}:{number}: blanks at the end of the line"


def check_places(tree):
    for path in tree.text():
        for number, line in tree.numbered(path):
            for pattern, what in ((MACHINE_PATH, "a path of one machine"), (REGISTRY, "the host of a package registry")):
                match = pattern.search(line)
                if match:
                    yield f"{path}:{number}: {what} ({match.group(0)}...); say it in a way that holds anywhere"


def shown_tree(lines):
    """README's tree as {name: line number}, and the marker's line; (None, why) where there is none."""
    marker = next((number for number, line in enumerate(lines, 1) if line.strip() == "<!-- tree -->"), None)
    if marker is None:
        return None, "README.md:1: no <!-- tree --> marker before the block that shows the tree"
    fences = [number for number, line in enumerate(lines, 1) if number > marker and line.startswith("```")]
    if len(fences) < 2:
        return None, f"README.md:{marker}: no fenced block after <!-- tree -->"
    block = ((number, lines[number - 1].split()) for number in range(fences[0] + 1, fences[1]))
    return {words[0].rstrip("/"): number for number, words in block if words}, marker


def check_tree(tree):
    """Each line of the block starts with one path from the root; <name> in it stands for any name."""
    if README not in tree.paths:
        return
    shown, marker = shown_tree(tree.read(README).split("\n"))
    if shown is None:
        yield marker
        return
    for name, number in shown.items():
        if not any(tree.root.glob(re.sub(r"<[^>]*>", "*", name))):
            yield f"README.md:{number}: the tree shows {name}, which does not exist"
    folders = {p.parts[0] for p in tree.paths if len(p.parts) > 1 and not p.parts[0].startswith(".")}
    folders |= {f"lib/{p.parts[1]}" for p in tree.paths if p.parts[0] == "lib" and len(p.parts) > 2}
    for folder in sorted(folders):
        # A folder is shown by itself or by what is shown inside it.
        if not any(name == folder or name.startswith(folder + "/") for name in shown):
            yield f"README.md:{marker}: the tree lacks {folder}/"


def generated_sections(tree):
    for path in tree.paths:
        if path.suffix == ".md":
            for match in GENERATED.finditer(tree.read(path)):
                yield path, match


def printed_by(program, arguments):
    run = subprocess.run([program, *arguments.split()], capture_output=True, text=True, check=False,
                         stdin=subprocess.DEVNULL)
    if run.returncode != 0:
        raise RuntimeError(f"attnscale {arguments} ended with status {run.returncode}: {run.stderr.strip()[-300:]}")
    return run.stdout.strip("\n")


def check_generated(tree, program):
    for path, match in generated_sections(tree):
        place = f"{path}:{match.string[:match.start()].count(chr(10)) + 1}"
        try:
            wanted = printed_by(program, match["arguments"]).split("\n")
        except (OSError, RuntimeError) as error:
            yield f"{place}: cannot be generated: {error}"
            continue
        found = match["text"].strip("\n").split("\n")
        if found == wanted:
            continue
        end = ["(end of the section)"]
        number, line, want = next((i, a, b) for i, (a, b) in enumerate(zip(found + end, wanted + end), 1) if a != b)
        yield (f"{place}: differs from what `attnscale {match['arguments']}` prints, at its line {number}: "
               f'"{line[:80]}" instead of "{want[:80]}"; tests/tidy/tidy.py --write --program build/attnscale mends it')


def write_generated(tree, program):
    proofs.write(tree)
    for path in {path for path, _ in generated_sections(tree)}:
        text = tree.read(path)
        new = GENERATED.sub(lambda m: f"{m[1]}{printed_by(program, m['arguments'])}\n{m['end']}", text)
        if new != text:
            (tree.root / path).write_bytes(new.encode())
            print(f"{path}: written")


def covered_elsewhere(tree):
    """The pairs `lib/x/y.cpp tests/x/z_test.cpp` of covered_elsewhere.txt, and the faults of that file."""
    pairs, faults = {}, []
    for number, line in tree.numbered(ELSEWHERE) if ELSEWHERE in tree.paths else ():
        words = line.split("#")[0].split()
        missing = [word for word in words if pathlib.PurePosixPath(word) not in tree.paths]
        if len(words) == 2 and not missing:
            pairs[words[0]] = words[1]
        elif words:
            faults.append(f"{ELSEWHERE}:{number}: expected a source file and its test, both existing: {line}")
    return pairs, faults


def check_tests(tree):
    elsewhere, faults = covered_elsewhere(tree)
    yield from faults
    included = {(path.parts[1], target) for path, _, target in includes(tree, "tests") if path.stem.endswith("_test")}
    for path in tree.code("lib"):
        if path.suffix != ".cpp" or len(path.parts) < 3 or path.as_posix() in elsewhere:
            continue
        # Without a header of its own a file has no public functions, unless it is a variant, which registers itself.
        if path.with_suffix(".h") not in tree.paths and "variants" not in path.parts:
            continue
        mirrored = pathlib.PurePosixPath("tests", *path.parts[1:-1], f"{path.stem}_test.cpp")
        flat = pathlib.PurePosixPath("tests", path.parts[1], f"{path.stem}_test.cpp")
        header = path.with_suffix(".h").relative_to("lib").as_posix()
        if mirrored not in tree.paths and flat not in tree.paths and (path.parts[1], header) not in included:
            yield f"{path}: no {flat}, no test there that includes {header}, no line in {ELSEWHERE}"


def main():
    parser = argparse.ArgumentParser(description="Checks the hygiene of the tree.")
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parents[2])
    parser.add_argument("--program", help="build/attnscale, for the generated sections; without it they are not checked")
    parser.add_argument("--strict", action="store_true", help="a source file without a test is a fault, not a note")
    parser.add_argument("--write", action="store_true", help="write the generated sections")
    options = parser.parse_args()
    if options.write and not options.program:
        parser.error("--write needs --program build/attnscale")
    tree = Tree(options.root)
    if options.write:
        write_generated(tree, options.program)
        return 0
    faults = []
    for check in (check_includes, check_torch_header, check_file_size, check_whitespace, check_places, check_tree):
        faults += check(tree)
    if options.program:
        faults += check_generated(tree, options.program)
        faults += proofs.check(tree, options.program)
    untested = list(check_tests(tree))
    if options.strict:
        faults += untested
    for fault in faults:
        print(fault)
    if untested and not options.strict:
        print(f"note: {len(untested)} source files are not seen to be tested (--strict makes these faults):")
        for line in untested:
            print(f"  {line}")
    print(f"tidy: {len(tree.paths)} files, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
