#!/bin/sh
# Holds a change to the last good run:  examples/ci/gate.sh SUITE CONFIG BASELINE
#
# BASELINE is the tag of a run kept in bench-runs/ (cache or commit that folder). Ends with the status of the comparison:
# 0 shown to be no worse, 1 regression, 3 too little to say, 4 not comparable.
set -u
suite=$1 config=$2 baseline=$3
weighbridge bench run "$suite" --config "$config" --format md || exit $?
weighbridge bench compare "$baseline" last --format junit > bench.xml
status=$?
weighbridge bench compare "$baseline" last
exit $status
