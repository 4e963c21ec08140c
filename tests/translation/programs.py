"""A translation program for the tests of commands: each mode has a way of its own to go wrong."""

import json
import subprocess
import sys
import time
from pathlib import Path

mode, note = sys.argv[1], Path(sys.argv[2])
held = []
for number, line in enumerate(sys.stdin):
    request = json.loads(line)
    with note.open("a") as file:
        file.write(request["text"] + "\n")
    answer = {"id": request["id"], "translation": f"[{request['target']}] {request['text'].upper()}"}
    if mode == "backwards":
        held.append(answer)
        continue
    if mode == "errors" and number % 2:
        answer = {"id": request["id"], "error": "no such word"}
    if mode == "garbage" and number == 1:
        print("Loading model ...\n\n[1, 2]\n" + json.dumps({"id": "unknown", "translation": "x"}) + '\n{"id": ')
        continue
    if mode == "wrong-type" and number == 1:
        answer["translation"] = 3
    if mode == "twice":
        print(json.dumps(answer))
        answer = answer | {"translation": "again"}
    if mode == "crash" and number == 2:
        sys.exit("out of luck")
    if mode == "quiet" and number == 2:
        break
    if mode == "stall" and number == 2:
        child = subprocess.Popen(["sleep", "600"])
        note.with_suffix(".pids").write_text(str(child.pid))
        time.sleep(600)
    print(json.dumps(answer), flush=True)
for answer in reversed(held):
    print(json.dumps(answer), flush=True)
