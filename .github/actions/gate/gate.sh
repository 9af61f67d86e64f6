#!/bin/sh
# The step of action.yml: its inputs come as variables, never as text of this script.
set -u
set -- --data "$GATE_DATA"
if [ -n "${GATE_MARGIN:-}" ]; then set -- "$@" --margin "$GATE_MARGIN"; fi
if [ -n "${GATE_BASELINE:-}" ]; then set -- "$@" --baseline "$GATE_BASELINE"; fi
if [ -n "${GATE_JUNIT:-}" ]; then set -- "$@" --junit "$GATE_JUNIT"; fi
set -- "$@" --
if [ -n "${GATE_OLD:-}" ]; then set -- "$@" "$GATE_OLD"; fi
"${GATE_PYTHON:-python}" -m qinspect gate "$@" "$GATE_NEW"
code=$?
if [ "$code" -eq 3 ] && [ "${GATE_ALLOW_CANNOT_TELL:-false}" = true ]; then exit 0; fi
exit "$code"
