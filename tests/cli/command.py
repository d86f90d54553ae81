"""Runs the built packlight command and checks how it ends."""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "oracle"))

BINARY = os.environ["PACKLIGHT_BINARY"]
CACHE = pathlib.Path(os.environ.get("PACKLIGHT_CACHE", ROOT / ".cache"))
SMOLLM = CACHE / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"


class CommandTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="packlight_test_")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def run_command(self, *arguments, **options):
        return subprocess.run([BINARY, *map(str, arguments)], capture_output=True, text=True, timeout=240, **options)

    def succeed(self, *arguments):
        """Standard output of a run that must end well."""
        result = self.run_command(*arguments)
        self.assertEqual(result.returncode, 0, f"{arguments}: {result.stderr}")
        return result.stdout

    def succeed_json(self, *arguments):
        return json.loads(self.succeed(*arguments, "--json"))

    def check_failure(self, result, *needles, code=1, prints=False):
        """One line of error that holds every needle, no crash, nothing on standard output unless the command `prints` findings."""
        self.assertEqual(result.returncode, code, result.stderr)
        self.assertEqual(bool(result.stdout), prints, result.stdout)
        lines = result.stderr.splitlines()
        self.assertEqual([line for line in lines if line.startswith("error: ")], lines[-1:], result.stderr)
        for needle in needles:
            self.assertRegex(lines[-1], re.compile(re.escape(str(needle)), re.IGNORECASE))

    def fail_with(self, *arguments, needles=(), **options):
        """The run must fail like that and leave the test's folder as it was."""
        before = self.contents()
        result = self.run_command(*arguments, **options)
        self.check_failure(result, *needles)
        self.assertEqual(self.contents(), before)
        return result

    def contents(self):
        return {p: (p.stat().st_size, p.stat().st_mtime_ns) for p in self.folder.rglob("*") if p.is_file()}

    def write(self, name, content):
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path
