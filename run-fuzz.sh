#!/usr/bin/env bash
# Builds the command and fuzzes. Without arguments: made exits against the exit handlers, on all cores, for a minute.
# All arguments are those of 'vmfuzz fuzz'. Status: 0 nothing found, 1 findings, 2 wrong use or nothing built.
set -euo pipefail

usage() {
    cat <<'TEXT'
Builds VmFuzz (Release) and fuzzes it. Needs the .NET 10 SDK.

  ./run-fuzz.sh                        the exit handlers, on all cores, for 60 seconds, into fuzz-out/exit-handlers;
                                       when that is there already, its campaign goes on for 60 seconds more
  ./run-fuzz.sh --target guest-code    another target, until Ctrl-C
  ./run-fuzz.sh --list                 targets and drivers
  ./run-fuzz.sh --target vmcs-entry --seconds 600 --jobs 2 --seed 7 --out /tmp/campaign
  ./run-fuzz.sh --resume --out /tmp/campaign --execs 1000000

Why the exit handlers: they are most of the hypervisor's code, run fastest, and need no guest.
Status: 0 nothing found, 1 findings, 2 wrong use or nothing built, 3 an engine bug.

TEXT
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
command=$here/src/VmFuzz.Cli/bin/Release/net10.0/vmfuzz.dll
export DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1 DOTNET_SKIP_FIRST_TIME_EXPERIENCE=1 MSBUILDTERMINALLOGGER=off

for argument in "$@"; do
    case $argument in -h | --help | '-?') usage ;; esac
done

if ! command -v dotnet > /dev/null; then
    echo "run-fuzz.sh: there is no dotnet: install the .NET 10 SDK (https://dot.net)" >&2
    exit 2
fi

# Runs a step quietly; when it fails, what it said is shown.
step() {
    local log status=0
    log=$(mktemp)
    "$@" > "$log" 2>&1 || status=$?
    if [ "$status" -ne 0 ]; then
        if [ -t 2 ]; then printf '\r\033[K' >&2; fi
        cat "$log" >&2
        rm -f "$log"
        echo "run-fuzz.sh: this failed: $*" >&2
        exit 2
    fi
    rm -f "$log"
}

# On a terminal the line goes away again.
if [ -t 2 ]; then printf 'building VmFuzz ...' >&2; else echo 'building VmFuzz ...' >&2; fi
# From the repository's folder: its global.json chooses the SDK.
pushd "$here" > /dev/null
step dotnet build src/VmFuzz.Cli/VmFuzz.Cli.csproj -c Release -v q -nologo
popd > /dev/null
if [ -t 2 ]; then printf '\r\033[K' >&2; fi

if [ $# -eq 0 ]; then
    set -- --target exit-handlers --seconds 60
    if [ -f fuzz-out/exit-handlers/campaign.json ]; then set -- "$@" --resume; fi
fi
exec dotnet "$command" fuzz "$@"
