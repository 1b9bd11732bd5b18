#!/usr/bin/env bash
# Start a SLURM of two nodes on this machine, for tests: munge, slurmctld, two slurmd. Installs nothing.
#
#   start.sh FOLDER     state and logs go to FOLDER; stop.sh FOLDER ends it
#
# Exits with 3 and one line on stderr where that cannot be done here. The configuration must be the machine's own,
# /etc/slurm/slurm.conf: the executor plugin removes SLURM_CONF from the environment of its jobs.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
configuration=/etc/slurm/slurm.conf

refuse() {
    echo "no SLURM for tests: $1" >&2
    exit 3
}

[[ $# -eq 1 ]] || { echo "usage: start.sh FOLDER" >&2; exit 2; }
[[ $(id -u) -eq 0 ]] || refuse "it needs root, this is $(id -un)"
for program in munged slurmctld slurmd sinfo; do
    PATH=$PATH:/usr/sbin command -v "$program" >/dev/null || refuse "$program is not installed (apt-get install slurm-wlm munge)"
done
export PATH=$PATH:/usr/sbin
if [[ -e $configuration ]] && ! head -1 "$configuration" | grep -q "tests/workflow/slurm/start.sh of mlmgen"; then
    refuse "$configuration is there already and is not of these tests"
fi
if [[ -n $(pgrep -x slurmctld) ]]; then
    earlier=$(sed -n 's|^StateSaveLocation=\(.*\)/state$|\1|p' "$configuration" 2>/dev/null || true)
    refuse "a slurmctld runs already${earlier:+; $here/stop.sh $earlier ends it}"
fi

mkdir -p "$1"
folder=$(cd "$1" && pwd)
mkdir -p "$folder/state" "$folder/spool/n1" "$folder/spool/n2" "$folder/log"

# Both nodes offer all of this machine, for their jobs are small; some jobs ask for two CPUs.
memory=$(awk '/^MemTotal:/ {print int($2 / 1024) - 64}' /proc/meminfo)
cpus=$(nproc)
((cpus > 1)) || cpus=2
sed -e "s|@HOST@|$(hostname -s)|" -e "s|@FOLDER@|$folder|" -e "s|@CPUS@|$cpus|" -e "s|@MEMORY@|$memory|" \
    "$here/slurm.conf.in" >"$configuration.$$"
mv "$configuration.$$" "$configuration"

if [[ -z $(pgrep -x munged) ]]; then
    mkdir -p /run/munge && chown munge: /run/munge
    [[ -e /etc/munge/munge.key ]] || runuser -u munge -- mungekey
    runuser -u munge -- munged || refuse "munged does not start"
    touch "$folder/started-munged"
fi
slurmctld && slurmd -N n1 && slurmd -N n2 || { "$here/stop.sh" "$folder"; refuse "SLURM does not start"; }
for _ in $(seq 60); do
    [[ $(sinfo -h -N -t idle -o %N 2>/dev/null | wc -l) -eq 2 ]] && exit 0
    sleep 0.5
done
sinfo -N -l >&2 || true
tail -n 5 "$folder"/log/*.log >&2 || true
"$here/stop.sh" "$folder"
refuse "the nodes were not idle within 30 seconds"
