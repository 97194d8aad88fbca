#!/bin/bash
# What cargo calls in the place of the compiler, for this crate only: ci/loom.sh.
exec "$@" --cfg loom
