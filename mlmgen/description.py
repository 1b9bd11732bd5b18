"""What `mlmgen describe` prints for a person."""

import json
from collections.abc import Iterable, Iterator

from mlmgen import terminal
from mlmgen.config import METHOD_VERSIONS
from mlmgen.errors import listing
from mlmgen.progress import duration

WIDTH = 14  # of the first column


def lines(found: dict) -> Iterator[str]:
    """Word what `mlmgen.describe.described` returns."""
    yield f"{terminal.bold(found['path'])}: {_heading(found)}"
    yield from _origin(found)
    if found["kind"] == "unfinished run":
        yield from _block("done so far", (f"{stage}: {_number(n, 'file')}" for stage, n in found["done"].items()))
    yield from _block("cell types", (_cell_type(name, one) for name, one in _cell_types(found)))
    yield from _block("tables", (_file(name, one) for name, one in found.get("files", {}).items()))
    yield from _block("beside the tables", found.get("others", []))
    yield from _block("left out", _left_out(found.get("left_out", {})))
    yield from _block("arrays", (f"{name} {shape}" for name, shape in found.get("arrays", {}).items()))
    if found.get("wall"):
        yield from _wall(found["wall"])
    stages = found.get("config", found.get("settings", {}))
    yield from _block("settings", _settings(stages))
    yield from _block("warnings", found["warnings"], terminal.yellow)


def _heading(found: dict) -> str:
    if found["kind"] == "run":
        complete = all(one["state"] == "complete" for one in found["files"].values())
        return f"{'complete' if complete else 'incomplete'} results of run {found['run']}"
    if found["kind"] == "table":
        return f"table of {found['rows']:,} rows" + (f", of run {found['run']}" if "run" in found else "")
    if found["kind"] == "record":
        return ", ".join(_about(found))
    if found["kind"] == "contrasts":
        return f"contrasts of {listing(found['cell_types'])}: {listing(found['contrasts'])}"
    if found["kind"] == "runs":
        seen = f"{found['n_cells']:,} cells, {found['n_genes']:,} genes, {found['runs']:,} runs"
        return f"counts of {found['cell_type']} in the order of the input, {seen}"
    if found["kind"] == "prepared":
        numbers = ((found["n_cells"], "cell"), (found["n_donors"], "donor"), (found["genes"], "gene"))
        seen = ", ".join(_number(*one) for one in numbers)
        skipped = f"; skipped: {found['skipped']}" if found["skipped"] else ""
        return f"counts of {found['cell_type']}, {seen}, {found['counts']:,.0f} counts{skipped}"
    return found["kind"]


def _about(record: dict) -> Iterator[str]:
    """Word what a record covers; one of all cells together says less than one of a cell type."""
    yield record["class"] + (f" of the stage {record['stage']}" if "stage" in record else "")
    yield from (record[key] for key in ("method", "cell_type") if key in record)
    if record.get("shard"):
        yield f"shard {record['shard']}"
    if genes := record.get("genes"):
        yield f"genes {genes['start']:,} to {genes['stop']:,} of {genes['of']:,}"


def _left_out(reasons: dict[str, dict[str, str]]) -> Iterator[str]:
    for cell_type, of_one in reasons.items():
        yield from (f"{cell_type}, {name}: {reason}" for name, reason in of_one.items())


def _number(n: int, what: str) -> str:
    return f"{n:,} {what}" + "s" * (n != 1)


def _row(name: str, text: object) -> str:
    return f"  {name:{WIDTH}} {text}"


def _origin(found: dict) -> Iterator[str]:
    """Word what was compared, of what, and by which programs."""
    config = found.get("config", {})
    for key in ("test", "contrasts"):
        if key in config:
            yield from _compared(config[key].get("contrasts"))
            break
    formula = found.get("formula") or _of(found, "formula")
    if formula:
        yield _row("formula", formula)
    if found.get("coefficients"):
        yield _row("coefficients", listing(found["coefficients"], 30))
    if found.get("reference"):
        yield _row("reference", ", ".join(f"{key}: {level}" for key, level in found["reference"].items()))
    if found.get("methods"):
        yield _row("methods", ", ".join(found["methods"]))
    data = found.get("input")
    path, digest = (data["path"], data["sha256"]) if isinstance(data, dict) else (_of(found, "input"), data)
    if path or digest:
        yield _row("input", ", ".join(filter(None, (path, digest and f"sha256 {digest}"))))
    if found.get("seed") is not None:
        yield _row("seed", found["seed"])
    if found.get("versions"):
        yield _row("made by", ", ".join(f"{name} {number}" for name, number in found["versions"].items()))


def _of(found: dict, key: str):
    """Return a setting of the stage prepare, else of split, wherever the kind of file has it."""
    stages = found.get("config", found.get("settings", {}))
    return next((stages[stage][key] for stage in ("prepare", "split") if key in stages.get(stage, {})), None)


def _compared(contrasts: list | None) -> Iterator[str]:
    if not contrasts:
        yield _row("compared", "every coefficient but the intercept")
        return
    for i, (name, expression) in enumerate(contrasts):
        text = expression if isinstance(expression, str) else "; ".join(expression)
        yield _row("" if i else "compared", f"{name}: {text}")


def _block(name: str, rows: Iterable[str], paint=terminal.bold) -> Iterator[str]:
    rows = list(rows)
    if rows:
        yield f"  {paint(name)}"
        yield from (f"    {row}" for row in rows)


def _cell_types(found: dict) -> Iterable[tuple[str, dict]]:
    return found["cell_types"].items() if isinstance(found.get("cell_types"), dict) else ()


def _cell_type(name: str, one: dict) -> str:
    shards = ", ".join(f"{method} {n}" for method, n in one.get("shards", {}).items())
    text = f"{name}: {_number(one['n_cells'], 'cell')}, {_number(one['n_donors'], 'donor')}" + (
        f", shards: {shards}" if shards else ""
    )
    return f"{text}; skipped: {one['skipped']}" if one.get("skipped") else text


def _file(name: str, one: dict) -> str:
    rows = f", {one['rows']:,} rows" if "rows" in one else ""
    return f"{name}{rows}" + (f": {one['state'].upper()}" if one["state"] != "complete" else "")


def _wall(wall: dict) -> Iterator[str]:
    host = wall["host"]
    cores = f", {_number(wall['cores'], 'core')}" if wall["cores"] else ""
    yield _row("ran", f"{wall['started']}, {duration(wall['seconds'])}, {_number(wall['jobs'], 'job')}{cores}")
    yield _row("on", f"{host['name']}, {host['cpu']}, {host['cpus']} CPUs, {host['system']}")
    yield from _block("time and memory of the jobs", (_rule(name, one) for name, one in wall["rules"].items()))


def _rule(name: str, one: dict) -> str:
    memory = f", at most {one['memory_mb']:,.0f} MB" if one["memory_mb"] is not None else ""
    jobs = _number(one["jobs"], "job")
    return f"{name}: {jobs}, {duration(one['seconds'])} in all, longest {one['longest']:,.1f} s{memory}"


def _settings(stages: dict) -> Iterator[str]:
    """Word the settings of each stage in the order of the stages, a line for each."""
    for stage in sorted(stages, key=[*METHOD_VERSIONS].index):
        keys = {key: value for key, value in _flat(stages[stage]) if key != "method_version"}
        words = ", ".join(f"{key} {_shown(value)}" for key, value in keys.items())
        yield f"{stage}, version {stages[stage].get('method_version', '?')}" + (f": {words}" if words else "")


def _flat(settings: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
