"""scripts/check_rooms on small wrong trees: every kind of breach is named, and a right tree passes."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

CHECK = pathlib.Path(__file__).parents[2] / "scripts" / "check_rooms"
TABLE = """
| rank | room | holds |
|---|---|---|
| 0 | `base/` | |
| 1 | `codec/` | |
| 3 | `data/` | |
| 4 | `runtime/` | |
| 4 | `graph/` | |
| 5 | `import/` | |
"""


class CheckRooms(unittest.TestCase):
    def run_on(self, files: dict[str, str]) -> subprocess.CompletedProcess:
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            (root / "include").mkdir()
            (root / "src").mkdir()
            (root / "ARCHITECTURE.md").write_text(TABLE)
            for name, text in files.items():
                path = root / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            return subprocess.run([sys.executable, CHECK, root], capture_output=True, text=True)

    def expect_breach(self, files: dict[str, str], message: str):
        result = self.run_on(files)
        self.assertEqual(result.returncode, 1, result.stdout + result.stderr)
        self.assertIn(message, result.stdout)
        self.assertIn("1 breaches", result.stdout)

    def test_lower_ranks_and_own_room_pass(self):
        result = self.run_on({
            "src/codec/tile.cpp": '#include "codec/tile.h"\n#include "base/fail.h"\n#include <vector>\n',
            "src/import/llama.cpp": '#include "graph/graph.h"\n#include <ATen/core/Tensor.h>\n',
            "src/import/CMakeLists.txt": "packlight_room(import DEPS base codec graph LIBS Some::library)\n",
        })
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    def test_higher_rank(self):
        self.expect_breach({"src/base/a.h": '#include "codec/tile.h"\n'},
                           "a.h:1: includes codec/tile.h: base (rank 0) may not use codec (rank 1)")

    def test_equal_rank(self):
        self.expect_breach({"src/graph/a.cpp": '\n#include "runtime/decoder.h"\n'},
                           "a.cpp:2: includes runtime/decoder.h: graph (rank 4) may not use runtime (rank 4)")

    def test_runtime_uses_the_device_rooms_only(self):
        self.expect_breach({"src/runtime/a.cpp": '#include "data/text.h"\n'}, "runtime may use only base, codec")

    def test_device_rooms_see_no_libtorch(self):
        self.expect_breach({"src/codec/a.cpp": "#include <ATen/ATen.h>\n"}, "may not include <ATen/ATen.h>")

    def test_runtime_sees_no_libtorch(self):
        self.expect_breach({"src/runtime/a.cpp": "#include <c10/util/Half.h>\n"}, "may not include <c10/util/Half.h>")

    def test_installed_interface_sees_no_higher_room(self):
        self.expect_breach({"include/packlight/session.h": '#include "graph/graph.h"\n'}, "includes graph/graph.h")

    def test_deps_of_a_room(self):
        self.expect_breach({"src/codec/CMakeLists.txt": "packlight_room(codec DEPS base\n    graph)\n"},
                           "DEPS graph: codec (rank 1) may not use graph (rank 4)")

    def test_unknown_room(self):
        self.expect_breach({"src/helpers/a.h": "\n"}, "helpers: no such room in ARCHITECTURE.md")


if __name__ == "__main__":
    unittest.main()
