"""Every export is read back by the reader it is for (pandas, pyarrow, numpy, TensorBoard), value for value.

usage: exports.py PROGRAM [EXAMPLE]   with EXAMPLE, that script is run on an exported table too
Exit code: 0 equal, 1 not; prints `skipped: why` where the readers are not installed.
"""

import glob
import io
import json
import math
import os
import subprocess
import sys
import tempfile

try:
    import matplotlib  # noqa: F401
    import numpy
    import pandas
    import pyarrow.parquet
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util import tensor_util
except ImportError as error:
    print(f"skipped: {error}; scripts/bootstrap.sh --references installs it")
    sys.exit(77)

PROGRAM = sys.argv[1]

# Doubles that a careless writer changes.
NUMBERS = [0.1, -0.0, 5e-324, 1.7976931348623157e308, 2.2250738585072014e-308, 1 / 3, math.pi, 1e22, 123456789.123456789, 3.0]
TEXTS = ["plain", "=1+1", "comma, \"quote\" and\nline", "é 文 😀", "", "'single' \\ back", "-", "trailing ", "\ttab", "null"]


def make_sweep(folder):
    """A results folder with ten runs: their values, lists, absent ones, and a log each."""
    rows = []
    for i, (number, text) in enumerate(zip(NUMBERS, TEXTS)):
        row = {"schema": "attnscale.result/1", "id": f"{i * 2654435761:016x}"[::-1], "status": "done", "variant": "softmax" if i % 2 else "linear",
               "loss": 1.5 + i / 7, "best_loss": 1.25, "steps": 3, "params": 2**53 + 1 + i, "tokens": 64 * (i + 1),
               "flops": 1e9 * (i + 1), "seed": i,
               "curve": {"steps": [1, 3], "tokens": [10, 30], "flops": [1e3, 3e3], "loss": [number, 1.5 + i / 7]},
               "config": {"model": {"depth": 1 + i, "bias": i % 3 == 0, "scale": number}, "attention": {"variant": "softmax"},
                          "data": {"note": text}, "train": {"seed": i}},
               "timing": {"seconds": 2.5}, "provenance": {"started": "2026-01-02T03:04:05Z", "notes": [text]}}
        if i % 4 == 0:
            row["accuracy"] = number if 0 <= number <= 1 else 0.5
            row["state_bytes"] = 1000 + i
            row["config"]["model"]["tied"] = i == 4
        rows.append(row)
        run = os.path.join(folder, "runs", row["id"])
        os.makedirs(run)
        with open(os.path.join(run, "log.jsonl"), "w") as log:
            for step in (1, 2, 3):
                log.write(json.dumps({"step": step, "loss": number / step, "learning_rate": 1e-3 / step, "gradient_norm": 0.7}) + "\n")
            log.write(json.dumps({"step": 3, "eval": True, "loss": 1.5 + i / 7, "tokens": 30, "flops": 3e3}) + "\n")
    with open(os.path.join(folder, "results.jsonl"), "w") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return rows


def flat(value, path=""):
    if not isinstance(value, dict):
        return {path: value}
    return {key: leaf for name, inner in value.items() for key, leaf in flat(inner, f"{path}.{name}" if path else name).items()}


def expected_rows(rows):
    """By id, column -> value, from the results themselves."""
    table = {}
    for row in rows:
        leaves = flat({**{k: v for k, v in row.items() if k not in ("curve", "schema", "config")}, **row["config"]})
        table[row["id"]] = leaves
    return table


def export(folder, *arguments):
    done = subprocess.run([PROGRAM, "export", folder, *arguments], capture_output=True, check=False)
    if done.returncode != 0:
        sys.exit(f"export {arguments}: {done.stderr.decode()}")
    return done.stdout


def same(found, wanted):
    """Equal with its type; doubles bit for bit."""
    if isinstance(wanted, bool):
        return isinstance(found, (bool, numpy.bool_)) and bool(found) == wanted
    if isinstance(wanted, float):
        return isinstance(found, (float, numpy.floating)) and numpy.float64(found).tobytes() == numpy.float64(wanted).tobytes()
    if isinstance(wanted, int):
        return isinstance(found, (int, numpy.integer)) and int(found) == wanted
    return found == wanted


def check(what, condition, detail):
    if not condition:
        sys.exit(f"{what}: {detail}")


def compare(what, table, wanted, is_absent, disarm=False, lists_as_text=True, wholes_may_be_doubles=False):
    """`table`: id -> column -> value as the reader gave it."""
    check(what, set(table) == set(wanted), f"ids {sorted(table)}")
    compared = 0
    for run, cells in table.items():
        columns = {column for leaves in wanted.values() for column in leaves}
        check(what, set(cells) == columns, f"columns {set(cells) ^ columns}")
        for column, found in cells.items():
            if column not in wanted[run]:
                check(what, is_absent(found), f"{run} {column}: {found!r}, expected none")
                continue
            value = wanted[run][column]
            if isinstance(value, list) and lists_as_text:
                check(what, json.loads(found) == value, f"{run} {column}: {found!r}, expected {value!r}")
                continue
            if disarm and isinstance(value, str) and value[:1] in tuple("=+-@\t\r"):
                value = "'" + value
            if wholes_may_be_doubles and isinstance(value, (int, bool)) and isinstance(found, numpy.floating):
                check(what, any(column not in leaves for leaves in wanted.values()), f"{column} became a double")
                value = float(value)
            check(what, same(found, value), f"{run} {column}: {found!r}, expected {value!r}")
            compared += 1
    print(f"{what}: {compared} cells equal")


def check_tables(folder, rows):
    wanted = expected_rows(rows)
    by_id = lambda records: {record["id"]: record for record in records}

    lines = export(folder, "--format", "jsonl").decode().splitlines()
    columns = {column for leaves in wanted.values() for column in leaves}
    compare("jsonl, by json", by_id([{**dict.fromkeys(columns), **json.loads(line)} for line in lines]), wanted,
            lambda value: value is None, lists_as_text=False)

    parquet = os.path.join(folder, "runs.parquet")
    export(folder, "--format", "parquet", "--out", parquet)
    arrow = pyarrow.parquet.read_table(parquet)
    compare("parquet, by pyarrow", by_id(arrow.to_pylist()), wanted, lambda value: value is None)
    check("parquet", str(arrow.schema.field("params").type) == "int64", arrow.schema)
    check("parquet", str(arrow.schema.field("model.tied").type) == "bool", arrow.schema)
    check("parquet", pyarrow.parquet.ParquetFile(parquet).metadata.created_by == "attnscale", "created_by")
    frame = pandas.read_parquet(parquet)
    check("parquet, by pandas", frame["loss"].tolist() == [row["loss"] for row in sorted(rows, key=lambda r: list(frame["id"]).index(r["id"]))], "loss")

    array = numpy.load(io.BytesIO(export(folder, "--format", "npy")))
    records = [dict(zip(array.dtype.names, record)) for record in array]
    compare("npy, by numpy", by_id(records), wanted,
            lambda value: value == "" or (isinstance(value, numpy.floating) and math.isnan(value)), wholes_may_be_doubles=True)
    check("npy", array.dtype["params"] == numpy.int64 and array.dtype["model.bias"] == numpy.bool_, array.dtype)

    csv = export(folder, "--format", "csv").decode()
    frame = pandas.read_csv(io.StringIO(csv), dtype={"id": str}, keep_default_na=False, na_values={"accuracy": "", "state_bytes": ""},
                            float_precision="round_trip")
    found = {record["id"]: record for record in frame.to_dict("records")}
    count = 0
    for run, leaves in wanted.items():
        for column, value in leaves.items():
            cell = found[run][column]
            if isinstance(value, str):
                value = "'" + value if value[:1] in tuple("=+-@\t\r") else value
                check("csv, by pandas", cell == value, f"{run} {column}: {cell!r}, expected {value!r}")
            elif isinstance(value, float):
                check("csv, by pandas", same(float(cell), value), f"{run} {column}: {cell!r}, expected {value!r}")
            elif isinstance(value, list):
                check("csv, by pandas", json.loads(cell) == value, f"{run} {column}: {cell!r}")
            else:
                check("csv, by pandas", str(cell).lower() in (str(value).lower(), f"{value}.0"), f"{run} {column}: {cell!r}, expected {value!r}")
            count += 1
    print(f"csv, by pandas: {count} cells equal")


def check_curves(folder, rows):
    path = os.path.join(folder, "curves.parquet")
    export(folder, "--format", "parquet", "--table", "curves", "--out", path)
    frame = pandas.read_parquet(path)
    for row in rows:
        curve = frame[frame["id"] == row["id"]]
        check("curves", curve["step"].tolist() == row["curve"]["steps"], row["id"])
        check("curves", all(map(same, curve["loss"].tolist(), row["curve"]["loss"])), row["id"])
    print(f"curves, by pandas: {len(frame)} points equal")


def check_tensorboard(folder, rows):
    out = os.path.join(folder, "board")
    export(folder, "--format", "tensorboard", "--out", out)
    compared = 0
    for row, number in zip(rows, NUMBERS):
        place, = glob.glob(os.path.join(out, f"{row['variant']}-{row['id'][:8]}"))
        board = EventAccumulator(place, size_guidance={"tensors": 0})
        board.Reload()
        for tag, wanted in (("train/loss", {step: number / step for step in (1, 2, 3)}),
                            ("train/learning_rate", {step: 1e-3 / step for step in (1, 2, 3)}),
                            ("validation/loss", {3: row["loss"]}), ("validation/flops", {3: 3e3})):
            events = board.Tensors(tag)
            check("tensorboard", board.SummaryMetadata(tag).plugin_data.plugin_name == "scalars", tag)
            check("tensorboard", [event.step for event in events] == list(wanted), f"{tag}: {events}")
            for event in events:
                found = tensor_util.make_ndarray(event.tensor_proto).item()
                check("tensorboard", same(found, wanted[event.step]), f"{place} {tag}: {found!r}, expected {wanted[event.step]!r}")
                # 2026-01-02T03:04:05Z, and 2.5 seconds over three steps
                check("tensorboard", abs(event.wall_time - 1767323045 - 2.5 * event.step / 3) < 1e-6, event.wall_time)
                compared += 1
    print(f"tensorboard: {compared} scalars equal")


def main():
    with tempfile.TemporaryDirectory(prefix="attnscale-exports-") as folder:
        rows = make_sweep(folder)
        check_tables(folder, rows)
        check_curves(folder, rows)
        check_tensorboard(folder, rows)
        if len(sys.argv) > 2:
            picture = os.path.join(folder, "loss.png")
            done = subprocess.run([sys.executable, sys.argv[2], os.path.join(folder, "runs.parquet"), picture],
                                  capture_output=True, text=True, env={**os.environ, "MPLBACKEND": "Agg"}, check=False)
            check("example", done.returncode == 0, done.stderr)
            check("example", "softmax" in done.stdout and "linear" in done.stdout, done.stdout)
            check("example", os.path.getsize(picture) > 5000, "no picture")
            print("example: runs, and draws a picture")


if __name__ == "__main__":
    main()
