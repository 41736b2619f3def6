#!/bin/sh
# Started as root, gives the data to the user redis and becomes it; arguments alone mean the server.
set -e
case "$1" in
    -*|*.conf) set -- redis-server "$@" ;;
esac
if [ "$1" = redis-server ] && [ "$(id -u)" = 0 ]; then
    find . \! -user redis -exec chown redis '{}' +
    exec setpriv --reuid redis --regid redis --init-groups --inh-caps=-all "$0" "$@"
fi
umask 077
exec "$@"
