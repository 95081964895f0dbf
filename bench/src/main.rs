//! The command `tickstream-load`.

fn main() -> std::process::ExitCode {
    tickstream_load::main()
}
