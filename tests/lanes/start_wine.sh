#!/bin/sh
# Makes the Wine prefix (WINEPREFIX) and leaves its server running for the tests. The first service processes inherit our output, so it must
# not be a pipe that someone reads to its end.
set -e
mkdir -p "$WINEPREFIX"
wineserver -p600 </dev/null >/dev/null 2>&1
wine cmd /c exit </dev/null >/dev/null 2>&1
wine winecfg -v win10 </dev/null >/dev/null 2>&1
