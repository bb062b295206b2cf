"""Two hundred damaged specs: each gets a message with line, path and repair, status 65, in under a second."""

import copy
import json
import os
import random
import unittest

from program import ProgramTest

GOOD = {
    "name": "good",
    "base": {
        "model": {"depth": 2, "model_dim": 16, "num_heads": 2, "num_kv_heads": 2, "norm": "rms_norm", "position": "rotary",
                  "dropout": 0.1},
        "attention": {"variant": "sliding_window", "window": 8},
        "data": {"source": "zipf_memory", "num_keys": 32, "context": 16},
        "train": {"steps": 10, "batch_size": 4, "learning_rate": 0.001, "warmup_steps": 2, "seed": 0, "dtype": "float32"},
    },
    "grid": {"model.depth": [1, 2]},
    "seeds": 2,
}
SECTIONS = ("model", "attention", "data", "train")
#: Keys that name what to build: with a typo in them the section's other keys are unknown too.
SELECTORS = ("variant", "source")
#: Keys that may be left out without a fixed default, which null stands for.
OPTIONAL = ("num_kv_heads", "warmup_steps")


def typo(word, kind, rng):
    """One letter dropped, doubled, replaced or swapped with its neighbour."""
    i = rng.randrange(1, len(word) - 1)
    changed = {"drop": word[:i] + word[i + 1:], "double": word[:i] + word[i] + word[i:],
               "replace": word[:i] + "q" + word[i + 1:], "swap": word[:i] + word[i + 1] + word[i] + word[i + 2:]}[kind]
    return changed if changed != word else word + "q"


def damaged():
    """(name, text or bytes, words that the message must hold)"""
    rng = random.Random(20240611)
    keys = [(section, key) for section in SECTIONS for key in GOOD["base"][section]]
    # Typos of one letter in keys: the right key is named.
    for section, key in keys:
        for kind in ("drop", "double", "replace", "swap"):
            if len(key) < 4:
                continue
            spec = copy.deepcopy(GOOD)
            wrong = typo(key, kind, rng)
            spec["base"][section] = {(wrong if k == key else k): v for k, v in spec["base"][section].items()}
            yield f"typo {section}.{wrong}", json.dumps(spec, indent=1), [f"base.{section}.{wrong}", f'"{key}"']
    # Typos in names that are values, and in the spec's own keys.
    for section, key, value in [("attention", "variant", "sliding_windw"), ("data", "source", "zipf_memroy"),
                                ("model", "norm", "rms_nrm"), ("model", "position", "rotry"), ("train", "dtype", "flaot32")]:
        spec = copy.deepcopy(GOOD)
        spec["base"][section][key] = value
        right = GOOD["base"][section][key]
        yield f"value {value}", json.dumps(spec, indent=1), [f"base.{section}.{key}", f'"{right}"']
    for wrong, right in [("bsae", "base"), ("gird", "grid"), ("seed", "seeds"), ("nam", "name"), ("radnom", "random")]:
        spec = copy.deepcopy(GOOD)
        spec[wrong] = spec.pop(right, {})
        yield f"spec key {wrong}", json.dumps(spec, indent=1), [wrong, f'"{right}"']
    for section in SECTIONS:
        spec = copy.deepcopy(GOOD)
        wrong = typo(section, "drop", rng)
        spec["base"][wrong] = spec["base"].pop(section)
        yield f"section {wrong}", json.dumps(spec, indent=1), [f"base.{wrong}", f'"{section}"']
    # Wrong types and values out of range.
    for section, key in keys:
        for value in (None, [], {}, "zzzzzz", True, -1, 0.5, 1e300, 2**64):
            good = GOOD["base"][section][key]
            fine = (isinstance(good, float) and value in (0.5,)) or (key == "learning_rate" and value in (1e300, 2**64))
            if fine or (key == "dropout" and value == 0.5) or (key in OPTIONAL and value is None):
                continue
            if rng.random() < 0.5:
                continue
            spec = copy.deepcopy(GOOD)
            spec["base"][section][key] = value
            yield f"{section}.{key} = {value}", json.dumps(spec, indent=1), [f"base.{section}.{key}", "expected"] \
                if key not in SELECTORS else [f"base.{section}.{key}"]
    # Structure: duplicates, truncation, not JSON at all.
    text = json.dumps(GOOD, indent=1)
    for section, key in keys[:8]:
        line = f'"{key}": {json.dumps(GOOD["base"][section][key])}'
        yield f"duplicate {key}", text.replace(line, f"{line},\n {line}", 1), [key, "duplicate key"]
    for _ in range(20):
        yield "truncated", text[:rng.randrange(2, len(text) - 2)], ["truncated"]
    for _ in range(10):
        yield "binary", bytes(rng.randrange(256) for _ in range(400)), ["spec.json:"]
    yield "empty", "", ["empty"]
    yield "a list", "[]", ["expected an object"]
    yield "a number", "3", ["expected an object"]
    yield "byte-order mark", b"\xef\xbb\xbf" + text.encode(), ["byte-order mark"]
    yield "bad UTF-8", text.encode().replace(b"rotary", b"rot\xffry"), ["UTF-8"]
    yield "NaN", text.replace("0.001", "NaN"), ["spec.json:"]
    yield "Infinity", text.replace("0.001", "Infinity"), ["spec.json:"]
    yield "1e400", text.replace("0.001", "1e400"), ["too large"]
    yield "brackets", "[" * 100000, ["levels"]
    # Grids.
    hundred = list(range(1, 101))
    axes = ("model.depth", "model.model_dim", "model.num_heads", "train.steps", "train.batch_size", "data.context")
    yield "10^12 points", json.dumps({**GOOD, "grid": {axis: hundred for axis in axes}}), ["runs"]
    yield "range of 10^12 points", json.dumps({**GOOD, "grid": {"train.learning_rate": {"log": [1e-4, 1], "points": 10**12}}}), ["points"]
    yield "unknown axis", json.dumps({**GOOD, "grid": {"modle.depth": [1]}}), ['"model"']
    yield "unknown key of an axis", json.dumps({**GOOD, "grid": {"model.detph": [1]}}), ['"depth"']
    yield "unequal zip", json.dumps({**GOOD, "zip": {"model.model_dim": [16, 32], "train.steps": [1]}}), ["equally long"]
    yield "no values", json.dumps({**GOOD, "grid": {"model.depth": []}}), ["empty list"]
    yield "heads do not divide", json.dumps({**GOOD, "grid": {"model.num_heads": [3]}}), ["16", "3"]
    yield "depth of a million", json.dumps({**GOOD, "grid": {"model.depth": [10**6]}}), ["1000000", "expected"]
    # Files beneath, groups, early stopping.
    yield "include of nothing", json.dumps({**GOOD, "include": "nowhere.json"}), ["include", "no such file"]
    yield "include of itself", json.dumps({**GOOD, "include": "spec.json"}), ["includes itself"]
    yield "include of a number", json.dumps({**GOOD, "include": 3}), ["expected the path"]
    yield "no groups", json.dumps({**GOOD, "groups": {}}), ["groups", "expected an object"]
    yield "unknown key of a group", json.dumps({**GOOD, "groups": {"a": {"gird": {}}}}), ["groups.a.gird", '"grid"']
    yield "typo in a group", json.dumps({**GOOD, "groups": {"a": {"base": {"model": {"detph": 2}}}}}), ['"depth"']
    for key, words in [("rule", '"asha"'), ("first", "first"), ("by", "learning_rate")]:
        stopping = {"rule": "asha", "first": 5, "by": ["model.depth"]}
        wrong = {"rule": "ahsa", "first": -1, "by": ["train.learnin_rate"]}
        yield f"stopping.{key}", json.dumps({**GOOD, "stopping": {**stopping, key: wrong[key]}}), [words]
    yield "seeds compete", json.dumps({**GOOD, "stopping": {"rule": "asha", "first": 5, "by": ["train.seed"]}}), ["luck"]
    yield "window 0", json.dumps({**GOOD, "grid": {"attention.window": [0]}}), ["grid.attention.window[0]", "expected"]
    yield "model larger than memory", json.dumps({**GOOD, "grid": {"model.model_dim": [65536], "model.depth": [512]}}), ["memory"]


def processor_seconds():
    """Of the programs that have ended: the claim is about the program, not about how loaded the machine is."""
    times = os.times()
    return times.children_user + times.children_system


class DamagedSpecs(ProgramTest):
    def test_each_gets_a_message_with_line_path_and_repair(self):
        cases = list(damaged())
        self.assertGreaterEqual(len(cases), 200)
        slow = []
        for name, content, expected in cases:
            path = os.path.join(self.folder, "spec.json")
            with open(path, "wb") as file:
                file.write(content if isinstance(content, bytes) else content.encode())
            begin = processor_seconds()
            done = self.run_here("plan", "spec.json", "--no-timing")
            if processor_seconds() - begin > 1:
                slow.append(name)
            with self.subTest(name):
                self.assertEqual(done.returncode, 65, done.stderr)
                self.assertEqual(done.stdout, "")
                self.assertRegex(done.stderr, r"^spec\.json:\d+:\d+: ")
                for words in expected:
                    self.assertIn(words, done.stderr)
        self.assertEqual(slow, [])


if __name__ == "__main__":
    unittest.main()
