#!/bin/sh
# Runs what an operator left in /docker-entrypoint.d, then the command.
set -e
if [ "$1" = nginx ] && [ -d /docker-entrypoint.d ]; then
    for script in /docker-entrypoint.d/*.sh; do
        [ -x "$script" ] || continue
        echo "$0: running $script"
        "$script"
    done
fi
exec "$@"
