"""The table of faults in the docs names tests that exist, and has every row."""

import os
import re
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class FaultsTable(unittest.TestCase):
    def test_every_row_names_tests_that_exist_or_says_not_yet(self):
        with open(os.path.join(ROOT, "docs", "reference", "faults.md")) as file:
            table = [line.strip().strip("|").split("|") for line in file if re.match(r"\| \d", line)]
        self.assertEqual([int(row[0]) for row in table], list(range(1, 28)))
        named = 0
        for number, fault, shown in table:
            place = None
            for text in re.findall(r"`([^`]+)`", shown):
                if re.match(r"tests/[\w/.]+$", text):
                    with open(os.path.join(ROOT, text)) as file:
                        place = file.read()
                elif text.startswith("docs/"):
                    self.assertTrue(os.path.exists(os.path.join(ROOT, text)), text)
                else:
                    self.assertIsNotNone(place, f"row {number}: {text} stands behind no file")
                    # A long name may be broken over two lines of the source.
                    self.assertIn(text, re.sub(r'"\s+"', "", place), f"row {number}")
                    named += 1
            self.assertTrue(place or "not yet" in shown, f"row {number}: {fault} has neither a test nor \"not yet\"")
        print(f"{named} tests named for {len(table)} faults")


if __name__ == "__main__":
    unittest.main()
