#!/bin/sh
# Ends what runs in the Wine prefix WINEPREFIX, also those of whom its server does not know (see run_wine.sh).
wineserver -k
for process in /proc/[0-9]*; do
  case $(readlink "$process/exe") in
    */wine*)
      if tr '\0' '\n' <"$process/environ" 2>/dev/null | grep -qxF "WINEPREFIX=$WINEPREFIX"; then
        kill -KILL "${process#/proc/}"
      fi
      ;;
  esac
done
