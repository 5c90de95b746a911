"""test_ci.py: a test that did not run is not green. What .ci/count makes of a log."""

import subprocess
from pathlib import Path

import pytest

COUNT = Path(__file__).parent.parent / ".ci" / "count"
FORBIDDEN = "SKIPPED [2] tests/test_upstream.py:437: the kernel forbids mount namespaces here"


@pytest.mark.parametrize("log, says, green", [
    (["[  PASSED  ] 12 test(s).", "200 passed in 50.12s"], "212 passed, 0 failed, 0 skipped", True),
    (["[  PASSED  ] 12 test(s).", "[  FAILED  ] 1 test(s), listed below:", "[  FAILED  ] test_x"],
     "12 passed, 1 failed, 0 skipped", True),  # make fails by itself then
    (["3 failed, 200 passed, 1 warning, 2 errors in 150.12s (0:02:30)"], "200 passed, 5 failed, 0 skipped", True),
    ([FORBIDDEN, "200 passed, 2 skipped in 50.12s"], "200 passed, 0 failed, 2 skipped", True),
    ([FORBIDDEN, "SKIPPED [1] tests/test_page.py:28: no chromium", "200 passed, 3 skipped in 50.12s"],
     "200 passed, 0 failed, 3 skipped", False),
    (["1 passed, 1 skipped in 0.10s"], "1 passed, 0 failed, 1 skipped", False),
    (["[  PASSED  ] 3 test(s).", "[  SKIPPED ] 1 test(s), listed below:"], "3 passed, 0 failed, 1 skipped", False),
    (["SKIPPED [1] tests/x.py:1: 9 passed, 1 failed in 3s", "E   5 passed in 1s", "no tests ran in 0.00s", "got 7 failed in 2s"],
     "0 passed, 0 failed, 0 skipped", True),
])
def test_what_was_skipped_is_counted_and_not_green(tmp_path, log, says, green):
    (tmp_path / "log").write_text("\n".join([*log, ""]))
    r = subprocess.run([COUNT, tmp_path / "log"], capture_output=True, text=True)
    assert r.stdout.splitlines()[-1] == says and (r.returncode == 0) == green, f"got {r}"
