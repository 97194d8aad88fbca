#!/bin/bash
# What cargo calls in the place of the compiler, for this crate only: ci/test.sh.
exec "$@" --cfg tsan
