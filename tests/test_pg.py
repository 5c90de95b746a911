"""test_pg.py: what makes clusters of PostgreSQL for the tests and for the guide makes them for everybody, not for root alone."""

import os
import subprocess
import sys
from pathlib import Path

import pg
from wire import missing

TRY = """
workshop = Workshop()
try:
    with workshop.cluster().admin() as sql:
        print(*sql("SELECT 6 * 7")[0])
finally:
    workshop.close()
"""


def test_whoever_is_not_root_has_a_cluster_of_his_own():
    try:
        pg.newest(), pg.psycopg2()
    except pg.Missing as why:
        missing(str(why))
    somebody = {} if os.getuid() else dict(user="nobody", group="nogroup", extra_groups=[])
    done = subprocess.run([sys.executable, "-"], input=Path(pg.__file__).read_text() + TRY, capture_output=True, text=True, cwd="/",
                          **somebody)
    assert done.stdout == "42\n", done.stderr
