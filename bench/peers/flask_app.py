"""Flask, for gunicorn: what many a first API is made of."""

from flask import Flask

app = Flask(__name__)


@app.get("/healthz")
def healthz():
    return '{"status":"ok"}\n', {"Content-Type": "application/json"}
