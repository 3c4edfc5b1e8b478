#!/usr/bin/env bash
# What becomes of a NaN that is logged while there is no server, as seen on 2026-12-01 with Python 3.11:
#   clearml 2.1.12, offline: it is 0.0 in metrics.jsonl. A norm that exploded looks like one that vanished.
#   neptune 1.14.0.post2, mode="offline": the step is missing in data-1.log.
#   comet-ml 3.58.8, OfflineExperiment: it is the text "NaN" in messages.json.
# Fails if one of these is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export CLEARML_CACHE_DIR="$folder/clearml" CLEARML_LOG_LEVEL=ERROR HOME="$folder"

seen() { # a package and its version -> what it kept of the values 1.0, NaN, 2.0
    python3 -m venv "$folder/$1"
    "$folder/$1/bin/pip" install --quiet --disable-pip-version-check "$1==$2"
    echo "$1 $2: $("$folder/$1/bin/python" "$folder/$1.py" 2> /dev/null | tail -1)"
}

cat > clearml.py <<'PY'
import glob
import json
import os
import sys

sys.path = [p for p in sys.path if p != os.path.dirname(os.path.abspath(__file__))]
from clearml import Task

Task.set_offline(True)
task = Task.init("p", "n", auto_connect_frameworks=False, auto_resource_monitoring=False)
for step, value in enumerate((1.0, float("nan"), 2.0)):
    task.get_logger().report_scalar("train", "grad_norm", value, step)
task.close()
(path,) = glob.glob(os.environ["CLEARML_CACHE_DIR"] + "/offline/*/metrics.jsonl")
rows = [row for line in open(path) for row in json.loads(line)]
print([row["value"] for row in rows if row.get("variant") == "grad_norm"])
PY
cat > neptune.py <<'PY'
import glob
import json
import os
import sys

sys.path = [p for p in sys.path if p != os.path.dirname(os.path.abspath(__file__))]
import neptune

run = neptune.init_run(
    mode="offline",
    project="a/b",
    source_files=[],
    capture_stdout=False,
    capture_stderr=False,
    capture_hardware_metrics=False,
    git_ref=False,
)
for step, value in enumerate((1.0, float("nan"), 2.0)):
    run["grad_norm"].append(value, step=step)
run.stop()
(path,) = glob.glob(".neptune/offline/*/data-1.log")
found = [json.loads(line)["obj"] for line in open(path)]
print([point["value"] for obj in found if obj["path"] == ["grad_norm"] for point in obj["values"]])
PY
cat > comet-ml.py <<'PY'
import glob
import json
import os
import sys
import zipfile

sys.path = [p for p in sys.path if p != os.path.dirname(os.path.abspath(__file__))]
import comet_ml

experiment = comet_ml.OfflineExperiment(offline_directory=".", project_name="p", log_code=False, log_graph=False)
for step, value in enumerate((1.0, float("nan"), 2.0)):
    experiment.log_metric("grad_norm", value, step=step)
experiment.end()
(path,) = glob.glob("*.zip")
lines = zipfile.ZipFile(path).read("messages.json").decode().splitlines()
metrics = [row["payload"]["metric"] for row in map(json.loads, lines) if row["type"] == "metric_msg"]
print([metric["metricValue"] for metric in metrics if metric["metricName"] == "grad_norm"])
PY

out=$(seen clearml 2.1.12; seen neptune 1.14.0.post2; seen comet-ml 3.58.8)
echo "$out"
diff <(echo "$out") - <<'SEEN'
clearml 2.1.12: [1.0, 0.0, 2.0]
neptune 1.14.0.post2: [1.0, 2.0]
comet-ml 3.58.8: [1.0, 'NaN', 2.0]
SEEN
echo "as it was"
