# The verbs of everyday work; `just` alone lists them. CI runs the same steps: .ci/run

_default:
    @{{ just_executable() }} --list --unsorted

# Formatting, clippy, documentation
check:
    .ci/run fmt clippy doc

# All tests but those of the warehouse and the insights: .ci/run tables
test:
    .ci/run test

# Of these, the Python client against the real server; a minute or two
protocol:
    .ci/run protocol

# Faults and attacks against the real server, the long ones too, with a report; NUMBER or Class[.test] for some
faults *args:
    scripts/faults {{ args }}

# One seed of the simulation, told in full; --seeds N for many
sim *args:
    scripts/sim {{ args }}

# Bugs that are planted to be found by simulation and tests
planted *names:
    scripts/planted-bugs {{ names }}

# Every target with libFuzzer, each for so many minutes; needs a nightly toolchain
fuzz *args:
    scripts/fuzz {{ args }}

# 100,000 seeds, all planted bugs, an hour of fuzzing for each target
nightly *args:
    scripts/nightly {{ args }}

# The server; needs STREAM_USER and STREAM_PASS (or TICKSTREAM_STREAM_PASS_FILE)
run *args:
    cargo run --release -- serve {{ args }}

# A server and a client that watches it
demo *args:
    cargo run --release -- demo {{ args }}

# The load generator, against a server that runs
bench *args:
    cargo run --release --package tickstream-load -- {{ args }}

# Instructions of the hot path, compared with bench/instructions.json
micro *args:
    scripts/micro {{ args }}

# One of scripts/: load-100k, burst, ingest, storm, slow-clients, soak, torture, compare, memory, kill9, upgrades, drain, failover; --help tells more
measure script *args:
    scripts/{{ script }} {{ args }}

# Units, manifests, rules and the image of deploy/; "boot" tries the units under a real systemd
deploy *steps:
    scripts/check-deploy {{ steps }}

# .deb, .rpm, tarball and release notes, into target/package; --help tells more
package *args:
    scripts/package {{ args }}

# The pictures of the live page and of top, from a real run, into docs/screenshots
screenshots *args:
    scripts/screenshots {{ args }}

# The API documentation, in a browser
doc:
    cargo doc --workspace --no-deps --open

# All that CI runs
ci:
    .ci/run
