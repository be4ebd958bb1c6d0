#!/bin/sh
# Runs a program under Wine. Its output comes when it has ended, and until then stands in $WINEPREFIX/output-<pid>: a process that is terminated
# while it starts can stay behind, nothing to Windows but with our standard error open (stop_wine.sh ends it), so a pipe would have no end.
log=${WINEPREFIX:-${TMPDIR:-/tmp}}/output-$$
wine "$@" >"$log" 2>&1
status=$?
if [ $status -ne 0 ] && grep -q 'Internal error. (1359)' "$log"; then  # Wine 8 under load now and then starts no process; a second try tells
  wine "$@" >"$log" 2>&1
  status=$?
fi
cat "$log"
rm -f "$log"
exit $status
