#!/usr/bin/env bash
# End the SLURM that start.sh FOLDER started, cancel its jobs and remove its configuration.
set -uo pipefail
[[ $# -eq 1 ]] || { echo "usage: stop.sh FOLDER" >&2; exit 2; }
export PATH=$PATH:/usr/sbin
folder=$1
configuration=/etc/slurm/slurm.conf

# Only what that start.sh started: process ids from its folder, the configuration if it is that one.
ended() {
    local file pid pids=()
    for file in "$@"; do
        [[ -s $file ]] && pids+=("$(<"$file")")
    done
    [[ ${#pids[@]} -gt 0 ]] || return 0
    kill "${pids[@]}" 2>/dev/null
    for _ in $(seq 30); do
        kill -0 "${pids[@]}" 2>/dev/null || return 0
        sleep 0.1
    done
    for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null; done
}

own() { [[ -e $configuration ]] && grep -qx "StateSaveLocation=$folder/state" "$configuration"; }

if own; then
    [[ -s $folder/slurmctld.pid ]] && timeout 10 scancel --quiet --user=root 2>/dev/null
    sleep 0.5
fi
ended "$folder/slurmd-n1.pid" "$folder/slurmd-n2.pid" "$folder/slurmctld.pid"
if [[ -e $folder/started-munged ]]; then
    ended /run/munge/munged.pid
    rm -f "$folder/started-munged"
fi
if own; then rm -f "$configuration"; fi
exit 0
