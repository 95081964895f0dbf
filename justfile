# The verbs of everyday work; `just` alone lists them. CI runs the same steps: .ci/run

_default:
    @{{ just_executable() }} --list --unsorted

# All that CI runs, or these steps of it: fmt clippy test tables sim doc docs deny; the first error ends it
check *steps:
    .ci/run {{ steps }}

# All tests but those of the warehouse and the insights: .ci/run tables
test:
    .ci/run test

# Faults and attacks against the real server, the long ones too, with a report; NUMBER or Class[.test] for some
faults *args:
    scripts/faults {{ args }}

# One seed of the simulation, told in full; --seeds N for many
sim *args:
    scripts/sim {{ args }}

# A server and a client that watches it
demo *args:
    cargo run --release -- demo {{ args }}

# The load generator, against a server that runs
bench *args:
    cargo run --release --package tickstream-load -- {{ args }}

# One of scripts/, such as load-100k, ingest, compare, micro, kill9, planted-bugs, fuzz, nightly, package; --help tells more
script name *args:
    scripts/{{ name }} {{ args }}

# Units, manifests, rules and the image of deploy/; "boot" tries the units under a real systemd
deploy *steps:
    scripts/check-deploy {{ steps }}
