"""Snakemake in a process of its own, which says on a pipe what its jobs do: `mlmgen run` listens there.

Snakemake hands its events to logger plugins (snakemake-interface-logger-plugins), which it looks for among the
packages that are installed; this one is registered by hand, so that nothing has to be.
"""

import contextlib
import json
import os
import sys
import time
import types

PLUGIN = "mlmgen"
NOTHING = "Nothing to be done"


def main(arguments: list[str]) -> None:
    """Run Snakemake and exit as it does.

    Parameters
    ----------
    arguments : list of str
        The number of the open pipe, then Snakemake's own.
    """
    pipe, *own = arguments
    os.set_inheritable(int(pipe), False)  # jobs must not hold it open
    register(os.fdopen(int(pipe), "w", encoding="utf-8", buffering=1))
    from snakemake.cli import main as snakemake

    sys.argv = ["snakemake", *own]  # what the run's provenance and log have as the command
    snakemake([*own, "--logger", PLUGIN])


def register(stream) -> None:
    """Make the plugin known to Snakemake.

    Parameters
    ----------
    stream : text stream
        Where a line of JSON is written for each event.
    """
    from snakemake_interface_logger_plugins.base import LogHandlerBase
    from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry

    class Events(LogHandlerBase):
        """Writes what happens to jobs; everything else is for Snakemake's own handler."""

        writes_to_stream = writes_to_file = needs_rulegraph = False
        has_filter = has_formatter = True

        def emit(self, record) -> None:
            """Write an event, unless it is of no interest or nobody listens any more."""
            found = described(record)
            if found is not None and not stream.closed:
                with contextlib.suppress(OSError):
                    stream.write(json.dumps(found | {"time": time.time()}) + "\n")

    module = types.ModuleType(f"snakemake_logger_plugin_{PLUGIN}")
    module.LogHandler = Events
    LoggerPluginRegistry().register_plugin(module.__name__, module)


def described(record) -> dict | None:
    """Return what a log record of Snakemake says about jobs, as `mlmgen.time_left.Event` has it; None for others.

    Parameters
    ----------
    record : logging.LogRecord
        With ``event`` and what Snakemake adds to it.
    """
    event = str(getattr(record, "event", None) or "")
    if event == "run_info" and hasattr(record, "stats"):
        return {"kind": "plan", "jobs": {str(rule): int(n) for rule, n in record.stats.items()}}
    if event == "job_info":
        wildcards = dict(record.wildcards or {})
        method, slug = str(wildcards.get("method", "")), str(wildcards.get("slug", ""))
        return {"kind": "started", "job": record.jobid, "rule": record.rule_name, "method": method, "cell_type": slug}
    if event == "job_finished":
        return {"kind": "finished", "job": record.job_id}
    if event == "job_error":
        return {"kind": "failed", "job": record.jobid, "rule": record.rule_name, "logs": [str(f) for f in record.log]}
    if not event and NOTHING in str(record.msg):
        return {"kind": "nothing"}
    return None


if __name__ == "__main__":
    main(sys.argv[1:])
